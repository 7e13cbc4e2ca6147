//! A pipeline's SPIR-V, written as wgpu 30 writes it for Vulkan.

use dqo_wgpu::gpu::BuiltPipeline;
use naga::back::pipeline_constants::process_overrides;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Literal, Module, ShaderStage};

/// A compute shader, and what a pipeline's layout takes from it.
pub struct Shader {
    pub words: Vec<u32>,
    /// Storage buffers, bound from 0 on.
    pub bindings: u32,
    /// Bytes of immediates.
    pub immediates: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Values of a head, where the kernel knows them while it is compiled.
    pub head_dim: Option<u32>,
}

/// The shader of a pipeline, for a driver that checks the bounds of buffers itself (`robust`) or does not.
pub fn shader(built: &BuiltPipeline, robust: bool) -> Shader {
    let fail = |error: &dyn std::fmt::Display| -> ! { panic!("{}: {error}", built.label) };
    let text = built.variant.text();
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| fail(&error.emit_to_string(&text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap_or_else(|error| fail(&error.emit_to_string(&text)));
    let constants = built.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, "main")), &constants)
        .unwrap_or_else(|error| fail(&error));

    let bindings = || module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
    let bind = |place: naga::ResourceBinding| {
        let info = spv::BindingInfo { descriptor_set: place.group, binding: place.binding, binding_array_size: None };
        (place, info)
    };
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        binding_map: bindings().map(bind).collect(),
        bounds_check_policies: policies(built.checks.bounds_checks, robust),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: built.checks.force_loop_bounding,
        emit_int_div_checks: built.checks.int_div_checks,
        ..Default::default()
    };
    let stage = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned() };
    let words = spv::write_vec(&module, &info, &options, Some(&stage)).unwrap_or_else(|error| fail(&error));
    Shader {
        words,
        bindings: bindings().count() as u32,
        immediates: bytes_in(&module, AddressSpace::Immediate),
        workgroup_memory: bytes_in(&module, AddressSpace::WorkGroup),
        head_dim: constant(&module, "HEAD_DIM"),
    }
}

fn policies(checks: bool, robust: bool) -> BoundsCheckPolicies {
    let policy = |checked| if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    BoundsCheckPolicies {
        index: policy(checks),
        buffer: policy(checks && !robust),
        image_load: BoundsCheckPolicy::Unchecked,
        binding_array: BoundsCheckPolicy::Unchecked,
    }
}

fn bytes_in(module: &Module, space: AddressSpace) -> u32 {
    let variables = module.global_variables.iter().filter(|(_, variable)| variable.space == space);
    variables.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum()
}

/// The value of a constant of a module, be it text or an override that has its value.
fn constant(module: &Module, name: &str) -> Option<u32> {
    let (_, constant) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
    match module.global_expressions[constant.init] {
        Expression::Literal(Literal::U32(value)) => Some(value),
        _ => None,
    }
}
