//! Tensors as textures, for the variants that read them so ([`Variant::textures`](crate::kernel::Variant::textures)).
//!
//! A kernel writes buffers alone: what a texture has is copied from its buffer before the dispatch that reads it, where anything may have
//! written the buffer since. On llvmpipe, for which it is done, that costs one or two milliseconds for 16 MB in its cache.

use crate::kernel::{Access, Elem, TEXTURE_WIDTH, texture_rows};
use crate::plan::{Dispatch, Texels};
use std::collections::HashMap;

/// For each dispatch of a plan what has to be copied before it, and how many elements: what it reads as a texture and another dispatch
/// has not copied already in as much length, or was written since. A plan begins with nothing: between plans the CPU may write, or another
/// plan.
pub(super) fn stale(dispatches: &[Dispatch]) -> Vec<Vec<(Texels, usize)>> {
    let mut fresh: HashMap<Texels, usize> = HashMap::new();
    dispatches
        .iter()
        .map(|d| {
            let mut copies = Vec::new();
            for (texels, len) in d.texels().flatten() {
                if fresh.get(&texels).is_none_or(|&copied| copied < len) {
                    fresh.insert(texels, len);
                    copies.push((texels, len));
                }
            }
            let written =
                |tensor| d.kernel.bindings.iter().zip(&d.buffers).any(|(b, &t)| t == tensor && b.access != Access::Read);
            fresh.retain(|texels, _| !written(texels.tensor));
            copies
        })
        .collect()
}

/// The texel's format, as the texts declare it.
pub(super) fn format(elem: Elem, texel: u32) -> wgpu::TextureFormat {
    match (elem, texel) {
        (Elem::F32, 1) => wgpu::TextureFormat::R32Float,
        (Elem::F32, 2) => wgpu::TextureFormat::Rg32Float,
        (Elem::F32, 4) => wgpu::TextureFormat::Rgba32Float,
        (Elem::U32, 1) => wgpu::TextureFormat::R32Uint,
        (Elem::U32, 2) => wgpu::TextureFormat::Rg32Uint,
        (Elem::U32, 4) => wgpu::TextureFormat::Rgba32Uint,
        _ => panic!("no format has texels of {texel} elements"),
    }
}

/// A texture for `len` elements, empty.
pub(super) fn texture(device: &wgpu::Device, label: &str, elem: Elem, texel: u32, len: usize) -> wgpu::Texture {
    let height = texture_rows(len, texel);
    device.create_texture(&wgpu::TextureDescriptor {
        label: Some(label),
        size: wgpu::Extent3d { width: TEXTURE_WIDTH, height, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: format(elem, texel),
        usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    })
}

/// A copy from a tensor's buffer to its texture.
pub(super) struct Copy {
    pub(super) buffer: wgpu::Buffer,
    pub(super) texture: wgpu::Texture,
    /// Texels to copy, from the first on.
    pub(super) texels: u32,
}

impl Copy {
    /// Appends it to the commands, outside of any pass.
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        // Float and word formats are as wide as what they hold.
        let bytes = u64::from(self.texture.format().block_copy_size(None).expect("a format of one aspect"));
        let [rows, rest] = [self.texels / TEXTURE_WIDTH, self.texels % TEXTURE_WIDTH];
        // The full rows, and what is left of the last.
        for (y, width, height) in [(0, TEXTURE_WIDTH, rows), (rows, rest, 1)] {
            if width * height == 0 {
                continue;
            }
            let from = wgpu::TexelCopyBufferInfo {
                buffer: &self.buffer,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: u64::from(y) * u64::from(TEXTURE_WIDTH) * bytes,
                    bytes_per_row: Some(TEXTURE_WIDTH * bytes as u32),
                    rows_per_image: None,
                },
            };
            let to = wgpu::TexelCopyTextureInfo {
                texture: &self.texture,
                mip_level: 0,
                origin: wgpu::Origin3d { x: 0, y, z: 0 },
                aspect: wgpu::TextureAspect::All,
            };
            encoder.copy_buffer_to_texture(from, to, wgpu::Extent3d { width, height, depth_or_array_layers: 1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Dims, by_key};
    use crate::ops::dense::DenseDims;
    use crate::plan::Program;

    #[test]
    fn what_was_written_since_is_copied_again_and_nothing_else() {
        let mut program = Program::new();
        let dims = |batch| DenseDims::new(batch, 16, 64, true).words();
        let [forward, backward] = ["dense.forward/lanes8", "dense.backward_input/lanes8"].map(by_key);
        program.begin("plan", 2);
        let mut play = |kernel, batch, tensors: &[&str]| program.dispatch_kernel("dense", kernel, dims(batch), tensors);
        play(forward, 2, &["x", "w", "y"]);
        play(forward, 2, &["x", "w", "z"]);
        // Of a longer x the rest was not copied.
        play(forward, 3, &["x", "w", "y"]);
        // This one writes x.
        play(backward, 3, &["dy", "w", "x"]);
        play(forward, 2, &["x", "w", "y"]);
        let copies: Vec<Vec<(&str, u32, usize)>> = stale(&program.plans[0].dispatches)
            .iter()
            .map(|copies| copies.iter().map(|(t, len)| (&*program.tensors[t.tensor.0].name, t.texel, *len)).collect())
            .collect();
        assert_eq!(
            copies,
            [vec![("x", 4, 32), ("w", 4, 1024)], vec![], vec![("x", 4, 48)], vec![("dy", 4, 192)], vec![("x", 4, 32)]]
        );
    }
}
