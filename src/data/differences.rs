//! Where the default reading and Keras's part ways on this very data set.

use super::decode::{Reader, Traits};
use super::folder::Folder;
use super::resize::Resize;

/// How many pictures of a data set carry what Keras would have treated differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraitCounts {
    /// Pictures decoded.
    pub pictures: usize,
    /// With an EXIF orientation other than upright.
    pub orientation: usize,
    /// With at least one pixel that is not opaque.
    pub alpha: usize,
    /// With more than 8 bits per channel.
    pub deep: usize,
    /// Stored at another size than the network's.
    pub resized: usize,
    /// Named `.webp`.
    pub webp: usize,
}

impl TraitCounts {
    /// Count one picture.
    pub fn add(&mut self, traits: Traits, webp: bool) {
        self.pictures += 1;
        self.orientation += usize::from(traits.orientation);
        self.alpha += usize::from(traits.alpha);
        self.deep += usize::from(traits.deep);
        self.resized += usize::from(traits.resized);
        self.webp += usize::from(webp);
    }
}

/// One sentence for each default choice that made a difference on this data set; none with `keras_exact`, nor where the
/// data give no occasion. (WebP and hidden files are in `folder.notes`, which comes first.)
pub fn keras_differences(folder: &Folder, reader: &Reader, counts: &TraitCounts) -> Vec<String> {
    if reader.keras_exact {
        return Vec::new();
    }
    let [r, g, b] = reader.background;
    let lines = [
        (counts.orientation, "with an EXIF orientation turned upright; Keras ignores it".to_owned()),
        (counts.alpha, format!("with transparent pixels laid over rgb({r}, {g}, {b}); Keras drops the alpha channel")),
        (counts.deep, "with 16 bits per channel scaled to 8; Keras clips grey at 255 and cuts colour".to_owned()),
        (
            if reader.resize == Resize::Nearest { 0 } else { counts.resized },
            format!("resized by {}; Keras takes the nearest pixel", format!("{:?}", reader.resize).to_lowercase()),
        ),
    ];
    let told = lines.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} picture(s) {what}"));
    folder.notes.iter().cloned().chain(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_data_gave_occasion_for_is_told() {
        let mut folder = Folder { classes: Vec::new(), items: Vec::new(), notes: Vec::new() };
        let mut counts = TraitCounts::default();
        counts.add(Traits { resized: true, ..Traits::default() }, false);
        let reader = Reader::default();
        assert!(keras_differences(&folder, &reader, &counts).is_empty());

        folder.notes.push("1 hidden folder(s) left out (.x); Keras makes each a class".to_owned());
        counts.add(Traits { orientation: true, alpha: true, deep: true, resized: true }, true);
        counts.add(Traits { orientation: true, ..Traits::default() }, false);
        let antialias = Reader { resize: Resize::Antialias, ..Reader::default() };
        let told = keras_differences(&folder, &antialias, &counts);
        let starts = [
            "1 hidden folder",
            "2 picture(s) with an EXIF",
            "1 picture(s) with trans",
            "1 picture(s) with 16",
            "2 picture(s) resized by antialias",
        ];
        assert_eq!(told.len(), starts.len());
        told.iter().zip(starts).for_each(|(line, start)| assert!(line.starts_with(start), "{line}"));
        assert!(told[2].contains("rgb(255, 255, 255)"));
        assert_eq!(keras_differences(&folder, &reader, &counts).len(), 4);
        assert!(keras_differences(&folder, &Reader { keras_exact: true, ..reader }, &counts).is_empty());
    }
}
