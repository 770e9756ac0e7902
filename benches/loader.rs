//! Times reading a folder of pictures into memory: `cargo bench --bench loader -- [--folder DIR]`.
//!
//! Without a folder it makes one of JPEGs. With --cache the pictures come from a cache that an earlier run has left. Every run must give the bytes of a plain decode, picture by picture on one thread.

mod common;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::{Times, pictures};
use image::{ImageEncoder, codecs::jpeg::JpegEncoder};
use std::path::{Path, PathBuf};
use wgradcam::data::{Cache, Dataset, Limit, OnBad, Reader, scan};

#[derive(Parser)]
struct Args {
    /// A folder of class folders, in place of made JPEGs
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Pictures to make
    #[arg(long, default_value_t = 1000)]
    pictures: usize,
    /// Side of the made pictures and of what is read, in pixels
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Load from a cache, written before the clock starts
    #[arg(long)]
    cache: bool,
    /// Timed runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

/// JPEGs as a camera's: smooth noise, quality 90, chroma at full and half resolution as the encoder chooses.
fn make(folder: &Path, n: usize, size: usize) -> Result<()> {
    // An eighth of the size, stretched: white noise would be all entropy decoding.
    let small = pictures(n, size.div_ceil(8));
    for i in 0..n {
        let class = folder.join(&small.classes[small.labels[i] as usize]);
        std::fs::create_dir_all(&class)?;
        let side = small.width as u32;
        let noise = image::RgbImage::from_raw(side, side, small.image(i)).context("a made picture has its size")?;
        let smooth = image::imageops::resize(&noise, size as u32, size as u32, image::imageops::FilterType::Triangle);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).write_image(
            &smooth,
            size as u32,
            size as u32,
            image::ExtendedColorType::Rgb8,
        )?;
        std::fs::write(class.join(format!("{i:06}.jpg")), bytes)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    let made = tempfile::tempdir()?;
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => {
            make(made.path(), args.pictures, args.size)?;
            made.path().to_owned()
        }
    };
    let reader = Reader { height: args.size, width: args.size, ..Reader::default() };
    let scratch = tempfile::tempdir()?;
    let cache = args.cache.then(|| Cache::at(scratch.path().join("cache")));
    let load = || {
        let found = scan(&folder, false)?;
        Dataset::load(&found.items, &found.classes, &reader, OnBad::Fail, Limit::default(), None, cache.as_ref())
    };
    if args.cache {
        // Files younger than this are not cached.
        std::thread::sleep(std::time::Duration::from_millis(2100));
    }
    let first = load()?;
    ensure!(!args.cache || scratch.path().join("cache").read_dir()?.count() == 1, "no cache was written");
    for (i, path) in first.paths.iter().enumerate() {
        let plain = image::open(path).with_context(|| path.display().to_string())?.into_rgb8();
        let resized = (plain.width() as usize, plain.height() as usize) != (args.size, args.size);
        ensure!(resized || *plain.as_raw() == first.image(i), "{} was read as other pixels than `image` decodes", path.display());
    }
    // Scanning the folder is part of it, as it is of `flow_from_directory`.
    let times = Times::checked(args.runs, load, |again| {
        ensure!(again.pixels == first.pixels && again.labels == first.labels, "two runs over one folder differ");
        Ok(())
    })?;
    let rate = 1e3 * first.len() as f64 / times.median();
    let threads = rayon::current_num_threads();
    if args.json {
        let json = serde_json::json!({"pictures": first.len(), "size": args.size, "threads": threads, "cache": args.cache, "load": times.to_json(),
            "pictures_per_s": rate});
        println!("{json}");
    } else {
        println!("{} pictures to {1}x{1} on {threads} threads", first.len(), args.size);
        println!("load  {times}   {rate:.0} pictures/s, pages of the files in the system's cache");
    }
    Ok(())
}
