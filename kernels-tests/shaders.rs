//! The shaders without a GPU: every variant validates, translates to SPIR-V, MSL and HLSL, and keeps the rules that
//! keep kernels right on every GPU; its header is the call's signature.

use std::collections::BTreeSet;
use std::path::Path;

use dqo_wgpu::gpu::{
    Access, GRID_WIDTH, MAX_BINDINGS, MAX_IMMEDIATE_BYTES, MAX_INVOCATIONS, MAX_MATRICES_WORKGROUP_BYTES,
    MAX_WORKGROUP_BYTES, Needs, Signature, Variant,
};
use dqo_wgpu::kernels::ALL;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Module, ShaderStage, StorageAccess, TypeInner};
use regex::Regex;

use crate::data_indices::index_from_data;
use crate::uniformity::divergent_barrier;

/// A module as a pipeline would have it: validated, with the default values of its overrides.
fn validated(text: &str, needs: Needs) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let mut capabilities = Capabilities::IMMEDIATES;
    capabilities |= match needs {
        Needs::Nothing => Capabilities::empty(),
        Needs::Subgroups => Capabilities::SUBGROUP,
        Needs::Matrices => Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX,
    };
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(text))?;
    let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, "main")), &Default::default())
        .map_err(|error| error.to_string())?;
    Ok((module.into_owned(), info.into_owned()))
}

fn for_each_variant(mut visit: impl FnMut(&Signature, &Variant, &str)) {
    for signature in ALL {
        for variant in signature.variants {
            visit(signature, variant, &variant.text());
        }
    }
}

#[test]
fn every_variant_validates_and_translates() {
    for_each_variant(|signature, variant, text| {
        let label = variant.label(signature);
        let (module, info) = validated(text, variant.needs).unwrap_or_else(|error| panic!("{label}: {error}"));

        let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        naga::back::spv::write_vec(&module, &info, &spirv, None)
            .unwrap_or_else(|error| panic!("{label}: SPIR-V: {error}"));

        let msl = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
        naga::back::msl::write_string(&module, &info, &msl, &Default::default())
            .unwrap_or_else(|error| panic!("{label}: MSL: {error}"));

        // DX12 has no matrices.
        if variant.needs == Needs::Matrices {
            return;
        }
        let hlsl = naga::back::hlsl::Options {
            shader_model: naga::back::hlsl::ShaderModel::V6_0,
            immediates_target: Some(Default::default()),
            ..Default::default()
        };
        let mut output = String::new();
        naga::back::hlsl::Writer::new(&mut output, &hlsl, &Default::default())
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{label}: HLSL: {error}"));
    });
}

/// Metal, whose matrices are 8 x 8, loads, stores and multiplies them with sums added on the way, and does nothing else with them.
#[test]
fn matrices_of_8_are_added_in_the_unit() {
    let mut seen = 0;
    for_each_variant(|signature, variant, text| {
        if !variant.name.contains("8 x 8") {
            return;
        }
        seen += 1;
        let label = variant.label(signature);
        let (module, info) = validated(text, variant.needs).unwrap_or_else(|error| panic!("{label}: {error}"));
        let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        let main = (&module.entry_points[0].function, info.get_entry_point(0));
        for (function, info) in functions.chain([main]) {
            for (handle, expression) in function.expressions.iter() {
                let is_matrix =
                    matches!(info[handle].ty.inner_with(&module.types), TypeInner::CooperativeMatrix { .. });
                let is_arithmetic = matches!(expression, Expression::Binary { .. } | Expression::Unary { .. });
                assert!(!(is_matrix && is_arithmetic), "{label}: {:?} computes with a matrix", function.name);
            }
        }
    });
    assert!(seen > 0);
}

#[test]
fn every_header_is_its_calls_signature() {
    for_each_variant(|signature, variant, text| {
        let label = variant.label(signature);
        let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{label}: {error}"));
        let mut bindings = Vec::new();
        let mut params = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            match variable.space {
                AddressSpace::Storage { access } => {
                    let binding = variable.binding.as_ref().expect("a storage variable is bound");
                    let access = if access.contains(StorageAccess::STORE) { Access::Write } else { Access::Read };
                    bindings.push((binding.group, binding.binding, variable.name.clone().unwrap(), access));
                }
                AddressSpace::Immediate => {
                    let TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else {
                        panic!("{label}: params is not a struct");
                    };
                    for member in members {
                        let TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
                            panic!("{label}: a parameter is not a scalar");
                        };
                        let ty = match scalar.kind {
                            naga::ScalarKind::Float => "f32",
                            naga::ScalarKind::Uint => "u32",
                            kind => panic!("{label}: a parameter is {kind:?}"),
                        };
                        params.push((member.name.clone().unwrap(), ty));
                    }
                }
                _ => {}
            }
        }
        bindings.sort_by_key(|(group, binding, ..)| (*group, *binding));
        let bindings: Vec<_> = bindings.iter().map(|(_, _, name, access)| (name.as_str(), *access)).collect();
        let params: Vec<_> = params.iter().map(|(name, ty)| (name.as_str(), *ty)).collect();
        let read = |access| if access == Access::Index { Access::Read } else { access };
        let declared: Vec<_> = signature.bindings.iter().map(|&(name, access)| (name, read(access))).collect();
        assert_eq!(bindings, declared, "{label}: bindings");
        assert_eq!(params, signature.params, "{label}: params");
    });
}

#[test]
fn every_variant_fits_the_smallest_adapter() {
    for_each_variant(|signature, variant, text| {
        let label = variant.label(signature);
        let (module, _) = validated(text, variant.needs).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert!(signature.bindings.len() <= MAX_BINDINGS as usize, "{label}: {} bindings", signature.bindings.len());
        assert!(4 * signature.params.len() <= MAX_IMMEDIATE_BYTES as usize, "{label}: params");
        let entry = &module.entry_points[0];
        assert!(entry.workgroup_size.iter().product::<u32>() <= MAX_INVOCATIONS, "{label}: {:?}", entry.workgroup_size);
        let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum();
        let most = if variant.needs == Needs::Matrices { MAX_MATRICES_WORKGROUP_BYTES } else { MAX_WORKGROUP_BYTES };
        assert!(bytes <= most, "{label}: {bytes} bytes of workgroup memory");
    });
}

/// A rule of the house: what breaks it, why, and a shader that does.
struct Rule {
    breaks: &'static str,
    why: &'static str,
    example: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        breaks: r"\bcontinuing\b|\bloop\b",
        why: "naga miscompiles `loop { continuing { break if } }` for Metal and DX12: use for or while",
        example: "fn f() { loop { continuing { break if true; } } }",
    },
    Rule {
        breaks: r"\bnum_workgroups\b",
        why: "grid sizes come in params",
        example: "fn main(@builtin(num_workgroups) n: vec3<u32>) {}",
    },
    Rule { breaks: r"\batomic", why: "no order may depend on timing", example: "var<workgroup> x: atomic<u32>;" },
    Rule {
        breaks: r"(?i)\binf\b|\bnan\b|0x7f800000|[0-9]e\+?(3[1-9]|[4-9][0-9])",
        why: "fast maths breaks infinities, NaN and huge constants: mask by select",
        example: "const LOWEST = -3.4e38;",
    },
    Rule {
        breaks: r"\bexp\((?:[^m-]|-[^m]|m[^i])",
        why: "exp's argument is clamped by min(...)",
        example: "fn f(x: f32) -> f32 { return exp(x); }",
    },
    Rule {
        breaks: r"\blog\((?:[^m]|m[^a])",
        why: "log's argument is clamped by max(...)",
        example: "fn f(x: f32) -> f32 { return log(x); }",
    },
    Rule {
        breaks: r"\btanh\((?:[^c]|c[^l])",
        why: "tanh's argument is clamped to +-15",
        example: "fn f(x: f32) -> f32 { return tanh(x); }",
    },
    Rule {
        breaks: r"\bpow\(",
        why: "pow's error grows with the exponent: use integer_power",
        example: "fn f(x: f32) -> f32 { return pow(x, 2.0); }",
    },
];

/// Rules that matrix units are spared: their operands are f16, scaled so that nothing overflows.
const RULES_OF_OTHERS: &[Rule] = &[
    Rule { breaks: r"\benable\b", why: "naga 30 rejects `enable subgroups;`", example: "enable subgroups;" },
    Rule { breaks: r"\bf16\b", why: "f16 overflows: accumulate in f32, store bf16", example: "var<private> x: f16;" },
];

/// Text without comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether a NaN test by comparison, `x != x`, is in the code.
fn compares_with_itself(code: &str) -> bool {
    let comparison = Regex::new(r"([\w\[\].]+) (?:!=|==) ([\w\[\].]+)").unwrap();
    comparison.captures_iter(code).any(|found| found[1] == found[2])
}

#[test]
fn the_rules_catch_what_breaks_them() {
    for rule in RULES.iter().chain(RULES_OF_OTHERS) {
        assert!(Regex::new(rule.breaks).unwrap().is_match(&code(rule.example)), "{}", rule.why);
    }
    assert!(compares_with_itself("if (x[i] != x[i]) {}"));
    assert!(!compares_with_itself("if (x[i] != x[j]) {}"));
}

/// Bodies of `main(i: local_invocation_index, w: workgroup_id, lane: { id: local_invocation_id })` with a writable `x`, a read-only `y`, workgroup memory
/// `z` and a function `meet` with a barrier.
const DIVERGENT: &[&str] = &[
    "if (i < 4u) { workgroupBarrier(); }",
    "if (i < 4u) { return; } workgroupBarrier();",
    "if (x[0] > 0u) { return; } workgroupBarrier();",
    "if (z[0] > 0u) { return; } workgroupBarrier();",
    "for (var k = i; k < 8u; k += 1u) { workgroupBarrier(); }",
    "for (var k = 0u; k < 8u; k += 1u) { if (k == i) { break; } workgroupBarrier(); }",
    "for (var k = 0u; k < 8u; k += 1u) { workgroupBarrier(); if (k == i) { break; } }",
    "var n = 0u; if (i == 0u) { n = 1u; } if (n == 0u) { workgroupBarrier(); }",
    "if (y[i] > 0u) { meet(); }",
    "while (x[0] > 0u) { meet(); }",
    "if (lane.id.x < 4u) { workgroupBarrier(); }",
    "if (i < 4u) { x[i] = workgroupUniformLoad(&z[0]); }",
];
const UNIFORM: &[&str] = &[
    "workgroupBarrier(); if (i < 4u) { return; }",
    "if (w.x > 3u) { return; } workgroupBarrier();",
    "if (y[w.x] > 3u) { return; } meet();",
    "for (var k = 0u; k < y[0]; k += 1u) { meet(); if (i == k) { x[k] = 1u; } workgroupBarrier(); }",
    "for (var k = i; k < 8u; k += 1u) { if (k == 3u) { break; } } workgroupBarrier();",
    "var n = y[0]; n += 1u; if (n == 0u) { workgroupBarrier(); }",
    "if (workgroupUniformLoad(&z[0]) == 0u) { workgroupBarrier(); }",
];

#[test]
fn barriers_in_divergent_control_flow_are_found() {
    let shader = |body: &str| {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             @group(0) @binding(1) var<storage, read> y: array<u32>;
             var<workgroup> z: array<u32, 4>;
             fn meet() {{ workgroupBarrier(); }}
             struct Lane {{ @builtin(local_invocation_id) id: vec3<u32> }}
             @compute @workgroup_size(8)
             fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) w: vec3<u32>, lane: Lane) {{ {body} }}"
        );
        validated(&text, Needs::Nothing).unwrap_or_else(|error| panic!("{body}: {error}")).0
    };
    for body in DIVERGENT {
        assert!(divergent_barrier(&shader(body)).is_some(), "{body}");
    }
    for body in UNIFORM {
        assert_eq!(divergent_barrier(&shader(body)), None, "{body}");
    }
}

#[test]
fn every_barrier_is_in_uniform_control_flow() {
    for_each_variant(|signature, variant, text| {
        let (module, _) = validated(text, variant.needs).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(divergent_barrier(&module), None, "{}", variant.label(signature));
    });
}

/// Bodies of `main(i: local_invocation_index)` with a writable `x`, a read-only `y`, workgroup memory `z`, a function `same`
/// that gives back its argument and `store` that writes it through a pointer.
const INDEXED_BY_DATA: &[&str] = &[
    "x[y[i]] = 1u;",
    "x[0] = y[y[i] + 4u];",
    "let j = y[i]; if (j < 4u) { x[j] = 1u; }",
    "for (var j = y[i]; j < 8u; j += 1u) { x[j] = 1u; }",
    "for (var j = 0u; j < y[i]; j += 1u) { x[j] = 1u; }",
    "x[same(y[i])] = 1u;",
    "var j = 0u; store(&j, y[i]); x[j] = 1u;",
    "z[i] = y[i]; workgroupBarrier(); x[z[0]] = 1u;",
    "z[y[i]] = 1u;",
    "x[u32(bitcast<f32>(y[i]))] = 1u;",
];
const INDEXED_BY_SIZES: &[&str] = &[
    "x[i] = y[i];",
    "x[min(y[i], 3u)] = 1u;",
    "x[y[i] % 4u] = 1u;",
    "for (var j = 0u; j < 8u; j += 1u) { x[j] = y[j]; }",
    "x[select(0u, i, y[i] > 3u)] = same(y[i]);",
    "z[i] = y[i]; workgroupBarrier(); x[i] = z[0];",
];

#[test]
fn indices_from_data_are_found() {
    let shader = |body: &str| {
        let text = format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             @group(0) @binding(1) var<storage, read> y: array<u32>;
             var<workgroup> z: array<u32, 8>;
             fn same(n: u32) -> u32 {{ return n; }}
             fn store(place: ptr<function, u32>, n: u32) {{ *place = n; }}
             @compute @workgroup_size(8)
             fn main(@builtin(local_invocation_index) i: u32) {{ {body} }}"
        );
        validated(&text, Needs::Nothing).unwrap_or_else(|error| panic!("{body}: {error}")).0
    };
    for body in INDEXED_BY_DATA {
        assert!(index_from_data(&shader(body)).is_some(), "{body}");
    }
    for body in INDEXED_BY_SIZES {
        assert_eq!(index_from_data(&shader(body)), None, "{body}");
    }
}

#[test]
fn a_kernel_that_is_indexed_by_data_says_so() {
    for_each_variant(|signature, variant, text| {
        let (module, _) = validated(text, variant.needs).unwrap_or_else(|error| panic!("{error}"));
        let (label, found) = (variant.label(signature), index_from_data(&module));
        match signature.is_indexed_by_data() {
            true => assert!(found.is_some(), "{label}: declares an `index` and indexes nothing by it"),
            false => assert_eq!(
                found, None,
                "{label}: this function indexes an array by what is in a tensor: declare the tensor as `index`, or bound it by min"
            ),
        }
    });
}

#[test]
fn every_shader_keeps_the_rules() {
    let mut broken = Vec::new();
    for_each_variant(|signature, variant, text| {
        let code = code(text);
        let of_others = if variant.needs == Needs::Matrices { &[] } else { RULES_OF_OTHERS };
        for rule in RULES.iter().chain(of_others) {
            if let Some(found) = Regex::new(rule.breaks).unwrap().find(&code) {
                broken.push(format!("{}: {:?}: {}", variant.label(signature), found.as_str(), rule.why));
            }
        }
        if compares_with_itself(&code) {
            broken.push(format!("{}: a NaN test is on the bits", variant.label(signature)));
        }
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_grid_folds_where_the_host_folds_it() {
    let grid = include_str!("../shaders/shared/grid.wgsl");
    assert!(grid.contains(&format!("const GRID_WIDTH = {GRID_WIDTH}u;")));
}

#[test]
fn a_kernel_is_one_name_in_few_places() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |folder: &str, extension: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let kernels: BTreeSet<String> = ALL.iter().map(|signature| signature.name.to_owned()).collect();
    assert_eq!(kernels.len(), ALL.len(), "a kernel is listed twice");
    assert_eq!(stems("shaders", "wgsl"), kernels, "shaders/*.wgsl are the kernels of kernels::ALL");
    for folder in ["src/kernels", "benches"] {
        let missing: Vec<_> = kernels.difference(&stems(folder, "rs")).cloned().collect();
        assert!(missing.is_empty(), "{folder} has no file for {missing:?}");
    }
    for name in &kernels {
        let source = std::fs::read_to_string(root.join("src/kernels").join(format!("{name}.rs"))).unwrap();
        assert!(source.contains("fn twin<T: Real>"), "{name} has no twin");
    }
}
