//! The WGSL files against the registry and against every naga back end. No GPU.

mod common;

use naga::AddressSpace;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, Layouter};
use naga::valid::{ModuleInfo, ValidationFlags, Validator};
use naga::{GlobalVariable, Handle, ImageClass, Module, Scalar, ScalarKind, StorageAccess, StorageFormat, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use wgradcam::kernel::{self, Access, Elem, Kernel, MadeFor, Needs, STEP_FIELDS, StepUniform, WORKGROUP};

/// WebGPU's default limits.
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_STORAGE_TEXTURES: usize = 4;
/// Bytes of a uniform that every adapter takes.
const MAX_UNIFORM: usize = 16 << 10;
const MAX_WORKGROUP_MEMORY: u32 = 16_384;
const MAX_INVOCATIONS: u32 = 256;

/// The kernel's module for its first case.
fn module(kernel: &Kernel) -> (Module, ModuleInfo) {
    module_for(kernel, &(kernel.cases)()[0])
}

/// The kernel's module, parsed and validated without any capability that it does not state.
fn module_for(kernel: &Kernel, dims: &[u32]) -> (Module, ModuleInfo) {
    let text = kernel.wgsl(dims);
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&text, kernel.file)));
    let info = Validator::new(ValidationFlags::all(), common::capabilities(kernel))
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&text, kernel.file)));
    (module, info)
}

fn entry_index(module: &Module, kernel: &Kernel) -> usize {
    let found = module.entry_points.iter().position(|e| e.name == kernel.entry);
    found.unwrap_or_else(|| panic!("{} has no entry point {}", kernel.file, kernel.entry))
}

/// The globals that the kernel's entry point uses, itself or through functions.
fn used<'a>(module: &'a Module, info: &ModuleInfo, kernel: &Kernel) -> Vec<(Handle<GlobalVariable>, &'a GlobalVariable)> {
    let function = info.get_entry_point(entry_index(module, kernel));
    module.global_variables.iter().filter(|(handle, _)| !function[*handle].is_empty()).collect()
}

fn struct_fields<'a>(module: &'a Module, name: &str) -> (Vec<(&'a str, u32, Scalar)>, u32) {
    let (_, ty) =
        module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("no struct {name}"));
    let TypeInner::Struct { members, span } = &ty.inner else { panic!("{name} is no struct") };
    let fields = members.iter().map(|m| {
        let TypeInner::Scalar(scalar) = module.types[m.ty].inner else { panic!("{name}.{:?} is no scalar", m.name) };
        (m.name.as_deref().expect("WGSL members have names"), m.offset, scalar)
    });
    (fields.collect(), *span)
}

#[test]
fn the_folder_and_the_registry_hold_the_same_files_and_entry_points() {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    // Names relative to the folder; templates in folders of their own.
    let wgsl = |folder: &Path, prefix: &str| -> BTreeMap<String, String> {
        std::fs::read_dir(folder.join(prefix))
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed").path())
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.file_name().and_then(|n| n.to_str()).expect("an ASCII name").to_owned();
                assert!(name.ends_with(".wgsl") || name.ends_with(".wgsl.jinja"), "{}", path.display());
                (format!("{prefix}{name}"), std::fs::read_to_string(path).expect("it can be read"))
            })
            .collect()
    };
    let mut registry: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for k in kernel::all() {
        registry.entry(k.file).or_default().insert(k.entry);
        // A technique's constants have one text and a kernel each.
        let of = k.variant.map_or(k.key, |v| v.of);
        let owner = *owners.entry((k.file, k.entry)).or_insert(of);
        assert_eq!(owner, of, "{} {} stands twice", k.file, k.entry);
    }
    let mut files = wgsl(&shaders, "");
    files.extend(["coop/", "lanes8/", "narrow/", "tile/"].iter().flat_map(|folder| wgsl(&shaders, folder)));
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), registry.keys().copied().collect::<Vec<_>>());
    for k in kernel::all() {
        assert!(files[k.file] == k.source, "{} is built from another text than {}", k.key, k.file);
        let (module, _) = module(k);
        let entries: BTreeSet<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(entries, registry[k.file], "{}", k.file);
    }
    let shared: BTreeSet<_> = kernel::all().flat_map(|k| k.shared.iter().copied()).collect();
    let on_disk = wgsl(&shaders.join("shared"), "");
    assert_eq!(on_disk.values().map(String::as_str).collect::<BTreeSet<_>>(), shared);
}

/// Kernels of one text are told apart by what it is made for, and the one with the shortest key, which says nothing of that, is the last:
/// the default. One that gathers stands behind that, for the machines that do.
#[test]
fn of_a_techniques_constants_the_default_is_the_last() {
    for (i, k) in kernel::all().enumerate() {
        let Some(variant) = k.variant else { continue };
        for (j, other) in kernel::all().enumerate().filter(|(_, o)| o.file == k.file && o.entry == k.entry && o.key != k.key) {
            let of = other.variant.expect("a base kernel has a text of its own");
            let both = |dims: &&Vec<u32>| (variant.fits)(dims) && (of.fits)(dims);
            for dims in (k.cases)().iter().filter(both) {
                let same =
                    (variant.needs, variant.textures) == (of.needs, of.textures) && k.constants(dims) == other.constants(dims);
                assert!(!same, "{} and {} are the same for {dims:?}", k.key, other.key);
            }
            if k.key.starts_with(other.key) && (variant.needs, variant.made_for) == (of.needs, of.made_for) {
                assert!(i < j, "{} stands behind {}", k.key, other.key);
            }
            if [variant.made_for, of.made_for] == [MadeFor::Gathering, MadeFor::Software] {
                assert!(i > j, "{} stands before {}", k.key, other.key);
            }
        }
    }
}

#[test]
fn variants_are_taken_by_the_machines_that_they_are_made_for() {
    // [software, gathers]
    let machines = [[false, false], [false, true], [true, false], [true, true]];
    let takers = |made_for: MadeFor| machines.map(|[software, gathers]| made_for.suits(software, gathers));
    assert_eq!(takers(MadeFor::Gpus), [true, true, false, false]);
    assert_eq!(takers(MadeFor::Software), [false, false, true, true]);
    assert_eq!(takers(MadeFor::Gathering), [false, false, false, true]);
}

#[test]
fn keys_are_op_and_entry_and_stand_once() {
    let mut keys = BTreeSet::new();
    for k in kernel::all() {
        assert!(keys.insert(k.key), "{} stands twice", k.key);
        let (op, entry) = k.key.split_once('.').expect("op.entry");
        let (entry, technique) = entry.split_once('/').map_or((entry, None), |(entry, technique)| (entry, Some(technique)));
        assert_eq!(entry, k.entry, "{}", k.key);
        assert_eq!(technique.is_some(), k.variant.is_some(), "{}", k.key);
        assert!(k.file.rsplit('/').next().is_some_and(|name| name.starts_with(op)), "{} lives in {}", k.key, k.file);
        if let Some(variant) = k.variant {
            let base = kernel::by_key(variant.of);
            assert!(k.key.starts_with(&format!("{}/", base.key)) && base.variant.is_none(), "{} of {}", k.key, base.key);
            assert!((k.cases)().iter().all(|dims| k.fits(dims)), "{} has a case that it does not fit", k.key);
            assert!(std::ptr::eq(k.bindings, base.bindings), "{} has bindings of its own", k.key);
            for name in variant.uniform {
                let binding = k.bindings.iter().find(|b| b.name == *name).expect("a buffer of the kernel's");
                let bytes = (k.cases)().iter().map(|dims| 4 * (binding.len)(dims)).max();
                assert!(binding.access == Access::Read && bytes <= Some(MAX_UNIFORM), "{}: {name}", k.key);
            }
            for dims in (k.cases)() {
                let loads = (variant.loads)(&dims);
                let textures = if variant.textures { loads.len() } else { 0 };
                assert!(textures <= MAX_STORAGE_TEXTURES, "{} has {textures} textures", k.key);
                for (name, width) in loads {
                    let binding = k.bindings.iter().find(|b| b.name == name).expect("a buffer of the kernel's");
                    let whole = (binding.len)(&dims).is_multiple_of(width as usize);
                    assert!(binding.access == Access::Read && whole, "{}: {name} for {dims:?}", k.key);
                }
            }
        }
        assert!(!(k.cases)().is_empty(), "{} has no cases", k.key);
        // What is read stands before what is written: the players and `verify` count on it.
        let first_write = k.bindings.iter().position(|b| b.access != Access::Read).expect("a kernel writes");
        assert!(k.bindings[first_write..].iter().all(|b| b.access != Access::Read), "{} reads after it writes", k.key);
        assert!(k.bindings.len() <= MAX_STORAGE_BUFFERS, "{} has {} storage buffers", k.key, k.bindings.len());
    }
}

/// A technique that saves products is named for it, and its share is its algorithm's.
#[test]
fn what_a_technique_makes_of_the_products_is_its_algorithms_share() {
    for k in kernel::all() {
        let share = match k.key.split_once('/').map_or("", |(_, technique)| technique) {
            technique if technique.starts_with("winograd4") => 1.0 / 4.0,
            technique if technique.starts_with("winograd_") => 4.0 / 9.0,
            technique if technique.starts_with("sparse") => 1.0 / 4.0,
            "" if k.key.starts_with("conv2d_relu_maxpool2x2.backward_weight") => 1.0 / 4.0,
            _ => 1.0,
        };
        assert_eq!(k.made, share, "{}", k.key);
    }
}

#[test]
fn bindings_are_the_registrys() {
    for k in kernel::all() {
        let (module, info) = module(k);
        let mut found = BTreeMap::new();
        for (_, global) in used(&module, &info, k) {
            let Some(binding) = &global.binding else {
                assert_eq!(global.space, AddressSpace::WorkGroup, "{}: {:?}", k.key, global.name);
                continue;
            };
            assert_eq!(binding.group, 0, "{}", k.key);
            assert!(found.insert(binding.binding, global).is_none(), "{} binds {} twice", k.key, binding.binding);
        }
        let mut take = |binding: u32, name: &str| {
            let global = found.remove(&binding).unwrap_or_else(|| panic!("{} does not use binding {binding}, {name}", k.key));
            assert_eq!(global.name.as_deref(), Some(name), "{} binding {binding}", k.key);
            global
        };
        let type_name = |global: &GlobalVariable| module.types[global.ty].name.as_deref().unwrap_or_default().to_owned();
        let dims = take(0, "dims");
        assert_eq!((dims.space, &*type_name(dims)), (AddressSpace::Uniform, "Dims"), "{}", k.key);
        if k.step {
            let step = take(kernel::STEP_BINDING, "step");
            assert_eq!((step.space, &*type_name(step)), (AddressSpace::Uniform, "Step"), "{}", k.key);
        }
        // A kernel of a single workgroup has no slices.
        if k.shared.contains(&kernel::SLICE_WGSL) {
            let slice = take(kernel::SLICE_BINDING, "slice");
            assert_eq!((slice.space, &*type_name(slice)), (AddressSpace::Uniform, "Slice"), "{}", k.key);
        }
        for (binding, b) in (kernel::FIRST_BINDING..).zip(k.bindings) {
            let global = take(binding, b.name);
            let access = match b.access {
                Access::Read => StorageAccess::LOAD,
                Access::Write | Access::Update => StorageAccess::LOAD | StorageAccess::STORE,
            };
            if let Some(texel) = k.texel(b, &(k.cases)()[0]) {
                let TypeInner::Image { class: ImageClass::Storage { format, access }, .. } = module.types[global.ty].inner else {
                    panic!("{}: {} is no texture", k.key, b.name)
                };
                let expected = match (b.elem, texel) {
                    (Elem::F32, 1) => StorageFormat::R32Float,
                    (Elem::F32, 2) => StorageFormat::Rg32Float,
                    (Elem::F32, 4) => StorageFormat::Rgba32Float,
                    (Elem::U32, 1) => StorageFormat::R32Uint,
                    other => panic!("{}: {}: {other:?}", k.key, b.name),
                };
                assert_eq!((format, access), (expected, StorageAccess::LOAD), "{}: {}", k.key, b.name);
                continue;
            }
            let space = if k.takes_uniform(b) { AddressSpace::Uniform } else { AddressSpace::Storage { access } };
            assert_eq!(global.space, space, "{}: {}", k.key, b.name);
            let TypeInner::Array { base, .. } = module.types[global.ty].inner else {
                panic!("{}: {} is no array", k.key, b.name)
            };
            let kind = match module.types[base].inner {
                TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar,
                _ => panic!("{}: {} holds neither scalars nor vectors", k.key, b.name),
            };
            let expected = match b.elem {
                Elem::F32 => ScalarKind::Float,
                Elem::U32 => ScalarKind::Uint,
            };
            // A variant may read two floats as one 64-bit word.
            let pairs = k.variant.is_some() && (kind.kind, kind.width) == (ScalarKind::Uint, 8);
            assert!(pairs || (kind.kind, kind.width) == (expected, 4), "{}: {}", k.key, b.name);
        }
        assert!(found.is_empty(), "{} uses bindings that the registry does not know: {:?}", k.key, found.keys());
    }
}

#[test]
fn wgsl_structs_are_laid_out_as_rusts() {
    let (dense, _) = module(kernel::by_key("dense.reduce"));
    let names = ["batch", "in_n", "out_n", "relu", "splits", "per_split"];
    assert_eq!(struct_fields(&dense, "Dims"), ((0u32..).zip(names).map(|(i, name)| (name, 4 * i, Scalar::U32)).collect(), 24));
    for k in kernel::all() {
        let (module, _) = module(k);
        for case in (k.cases)() {
            assert_eq!(case.len(), k.dims.len(), "{}", k.key);
        }
        if k.step {
            let (step, span) = struct_fields(&module, "Step");
            let expected: Vec<_> = (0u32..)
                .zip(STEP_FIELDS)
                .map(|(i, name)| (*name, 4 * i, if i < 4 { Scalar::U32 } else { Scalar::F32 }))
                .collect();
            assert_eq!(step, expected, "{}", k.key);
            assert_eq!(span as usize, size_of::<StepUniform>(), "{}", k.key);
        }
    }
}

#[test]
fn the_first_comment_line_of_an_entry_point_is_its_formula() {
    for k in kernel::all() {
        let lines: Vec<&str> = k.source.lines().collect();
        let name = format!("fn {}(", k.entry);
        let at =
            lines.iter().position(|l| l.starts_with(&name)).unwrap_or_else(|| panic!("{}: no line begins with {name}", k.file));
        let compute = lines[..at].iter().rposition(|l| l.starts_with("@compute")).expect("an entry point has @compute");
        let first = lines[..compute].iter().rposition(|l| !l.starts_with("//")).map_or(0, |i| i + 1);
        assert_eq!(lines[first], format!("// {}", k.formula), "{}", k.key);
    }
}

#[test]
fn workgroups_stay_inside_webgpus_default_limits() {
    for k in kernel::all() {
        // A variant's workgroups differ from shape to shape.
        let texts: BTreeMap<_, _> = (k.cases)().into_iter().map(|dims| (k.constants(&dims), dims)).collect();
        for dims in texts.values() {
            let (module, info) = module_for(k, dims);
            let invocations: u32 = module.entry_points[entry_index(&module, k)].workgroup_size.iter().product();
            match k.variant.map(|v| v.needs) {
                None => assert_eq!(invocations, WORKGROUP, "{}", k.key),
                Some(Needs::CooperativeMatrix(_)) => assert_eq!(invocations, 128, "{}", k.key),
                Some(Needs::EightLanes) => assert_eq!(invocations, 8, "{}", k.key),
                Some(Needs::Nothing | Needs::ComponentStores) => {
                    assert!(invocations <= MAX_INVOCATIONS, "{}: {invocations} for {dims:?}", k.key)
                }
            }
            let mut layouter = Layouter::default();
            layouter.update(module.to_ctx()).expect("a valid module has layouts");
            let memory: u32 = used(&module, &info, k)
                .iter()
                .filter(|(_, g)| g.space == AddressSpace::WorkGroup)
                .map(|(_, g)| layouter[g.ty].size)
                .sum();
            assert!(memory <= MAX_WORKGROUP_MEMORY, "{} takes {memory} bytes of workgroup memory for {dims:?}", k.key);
        }
        const { assert!(WORKGROUP <= MAX_INVOCATIONS) };
        for case in (k.cases)() {
            let grid = (k.grid)(&case);
            assert!(grid.iter().all(|n| (1..=65_535).contains(n)), "{}: grid {grid:?} for {case:?}", k.key);
        }
    }
}

/// Judges SPIR-V by Khronos' validator, where it is installed: naga's own writer is not its own judge.
fn spirv_val(key: &str, words: &[u32]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    file.write_all(&bytes).expect("it can be written");
    let judged = Command::new("spirv-val").args(["--target-env", "vulkan1.1"]).arg(file.path()).output().expect("it runs");
    assert!(judged.status.success(), "{key}: {}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn every_naga_back_end_takes_every_kernel() {
    let has_spirv_val = Command::new("spirv-val").arg("--version").output().is_ok_and(|o| o.status.success());
    if !has_spirv_val {
        eprintln!("SKIPPED: spirv-val is not installed (Debian: apt-get install spirv-tools); the SPIR-V was not validated");
    }
    for k in kernel::all() {
        let (module, info) = module(k);
        let entry = || Some((naga::ShaderStage::Compute, k.entry.to_owned()));

        let pipeline = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: k.entry.to_owned() };
        // Subgroups came with SPIR-V 1.3.
        let lang_version = if k.variant.is_some() { (1, 3) } else { (1, 0) };
        let options = spv::Options { lang_version, ..spv::Options::default() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline));
        let words = words.unwrap_or_else(|e| panic!("{} as SPIR-V: {e}", k.key));
        assert!(!words.is_empty(), "{}", k.key);
        // Debian's validator is older than cooperative matrices.
        let known = k.variant.is_none_or(|v| !matches!(v.needs, Needs::CooperativeMatrix(_)));
        if has_spirv_val && known {
            spirv_val(k.key, &words);
        }

        if k.variant.is_some_and(|v| v.needs != Needs::Nothing) {
            // Made for Vulkan alone: for its drivers on CPUs, of matrices that naga writes for Vulkan and Metal alone, and Metal's of
            // another size, or with stores that only there leave a vector's other components alone.
            continue;
        }

        let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
        let pipeline = msl::PipelineOptions { entry_point: entry(), ..msl::PipelineOptions::default() };
        let (text, _) =
            msl::write_string(&module, &info, &options, &pipeline).unwrap_or_else(|e| panic!("{} as MSL: {e}", k.key));
        assert!(text.contains("kernel void"), "{}", k.key);

        let mut text = String::new();
        let options = hlsl::Options::default();
        let pipeline = hlsl::PipelineOptions { entry_point: entry() };
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{} as HLSL: {e}", k.key));
        assert!(text.contains("numthreads"), "{}", k.key);

        let mut text = String::new();
        let options = glsl::Options { version: glsl::Version::Desktop(430), ..glsl::Options::default() };
        let pipeline =
            glsl::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: k.entry.to_owned(), multiview: None };
        glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, BoundsCheckPolicies::default())
            .and_then(|mut writer| writer.write())
            .unwrap_or_else(|e| panic!("{} as GLSL: {e}", k.key));
        assert!(text.contains("void main()"), "{}", k.key);
    }
}

#[test]
fn every_template_unrolls_to_valid_wgsl_for_every_constant() {
    for k in kernel::all().filter(|k| k.variant.is_some()) {
        let texts: BTreeMap<_, _> = (k.cases)().into_iter().map(|dims| (k.constants(&dims), dims)).collect();
        for dims in texts.values() {
            let (module, _) = module_for(k, dims);
            entry_index(&module, k);
        }
    }
}

#[test]
fn printed_shaders_are_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = folder.path().join("wgsl");
    let written = wgradcam::verify::print_shaders(&printed, None).expect("they are written");
    assert_eq!(written, kernel::all().count());
    for k in kernel::all() {
        let text = std::fs::read_to_string(printed.join(wgradcam::verify::printed_name(k))).expect("a file per kernel");
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}: {}", k.key, e.emit_to_string(&text)));
        assert!(module.entry_points.iter().any(|e| e.name == k.entry), "{}", k.key);
    }
    assert!(wgradcam::verify::print_shaders(&printed, Some("no such kernel")).is_err());
}
