//! safetensors files with one metadata entry and a checksum over it and every tensor.

use crate::files::write_whole;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;

/// The metadata key; one key only, so that the file's bytes do not depend on a hash map's order.
const KEY: &str = "wgradcam";
/// How the metadata begins: the checksum in 8 hexadecimal digits, then the rest of the JSON object.
const OPENING: &str = "{\"crc32\":\"";

/// CRC-32 of the metadata behind the checksum and of every tensor's name, type, shape and bytes, in order of name.
fn checksum(rest: &str, mut tensors: Vec<(String, TensorView)>) -> u32 {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(rest.as_bytes());
    for (name, tensor) in &tensors {
        hasher.update(format!("\n{name} {:?} {:?}\n", tensor.dtype(), tensor.shape()).as_bytes());
        hasher.update(tensor.data());
    }
    hasher.finalize()
}

/// Writes the tensors and a JSON object of metadata, whole.
pub(super) fn write(path: &Path, metadata: &str, tensors: Vec<(String, TensorView)>) -> Result<()> {
    let rest = metadata.strip_prefix('{').context("the checkpoint's metadata is no JSON object")?;
    let crc32 = checksum(rest, tensors.clone());
    let text = format!("{OPENING}{crc32:08x}\",{rest}");
    let bytes = safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_owned(), text)]))).context("the checkpoint")?;
    write_whole(path, &bytes)
}

/// Opens what [`write`] wrote, a file of format 1 (which has no checksum) or one without our metadata.
///
/// # Errors
/// When the bytes are no whole safetensors file or the checksum is another; `shown` names the file.
pub(super) fn open<'a>(bytes: &'a [u8], shown: &str) -> Result<(SafeTensors<'a>, Option<String>)> {
    let (_, header) = SafeTensors::read_metadata(bytes)
        .with_context(|| format!("{shown} is no whole safetensors file: it is damaged, cut short or of another format"))?;
    let tensors = SafeTensors::deserialize(bytes).with_context(|| format!("{shown} is damaged"))?;
    let Some(text) = header.metadata().as_ref().and_then(|m| m.get(KEY)).cloned() else { return Ok((tensors, None)) };
    match text.strip_prefix(OPENING).and_then(|sealed| sealed.split_once("\",")) {
        Some((stated, rest)) => {
            let found = format!("{:08x}", checksum(rest, tensors.tensors()));
            ensure!(stated == found, "{shown} is damaged: its checksum is {stated}, and its contents give {found}");
        }
        // Told from the text and not from the parsed number: a damaged 2 must not pass for a 1.
        None if text.starts_with("{\"format\":1,") => {}
        None => bail!("{shown} is damaged or was rewritten by another program: its metadata has no checksum"),
    }
    Ok((tensors, Some(text)))
}
