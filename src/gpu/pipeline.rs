//! Compute pipelines, made once for each kernel variant and set of constants.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Instant;

use anyhow::{Result, anyhow};
use wgpu::ShaderRuntimeChecks;

use super::launch::{Access, Binding, Launch, Signature, Variant};

/// All pipelines of a device, and the bind groups made for them.
pub struct Pipelines {
    /// A variant's, by its address: texts are static.
    known: HashMap<usize, Vec<Pipeline>>,
    built: Vec<BuiltPipeline>,
    checks: bool,
}

/// What a pipeline was built from, and how long that took.
#[derive(Clone, Debug)]
pub struct BuiltPipeline {
    /// The kernel, and in brackets its variant.
    pub label: String,
    pub variant: &'static Variant,
    /// Values of the `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// What the shader checks while it runs.
    pub checks: ShaderRuntimeChecks,
    /// Of wgpu and of the driver, whose own cache may have had it.
    pub seconds: f64,
}

impl BuiltPipeline {
    /// Kernel, variant and constants: no two pipelines of a device have the same.
    pub fn name(&self) -> String {
        let constants: String = self.constants.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        self.label.clone() + &constants
    }
}

/// A compiled kernel and the bind groups it was used with.
pub struct Pipeline {
    pub compute: wgpu::ComputePipeline,
    constants: Vec<(&'static str, f64)>,
    layout: wgpu::BindGroupLayout,
    /// By the hash of their buffers.
    bind_groups: HashMap<u64, Vec<BindGroup>>,
}

struct BindGroup {
    /// In binding order.
    buffers: Vec<wgpu::Buffer>,
    group: wgpu::BindGroup,
}

impl Pipelines {
    /// None yet. With `checks` every shader checks its bounds, its loops and its divisors.
    pub fn new(checks: bool) -> Self {
        Self { known: HashMap::new(), built: Vec::new(), checks }
    }

    /// The pipeline of a launch, compiled where it is new.
    ///
    /// # Errors
    /// Names the kernel and its variant, with the compiler's message.
    pub fn get(&mut self, device: &wgpu::Device, signature: &Signature, launch: &Launch) -> Result<&mut Pipeline> {
        let variant: *const Variant = launch.variant;
        let of_variant = self.known.entry(variant.addr()).or_default();
        let known = of_variant.iter().position(|pipeline| pipeline.constants == launch.constants);
        let place = known.unwrap_or(of_variant.len());
        if known.is_none() {
            let (pipeline, built) = build(device, signature, launch, self.checks)?;
            of_variant.push(pipeline);
            self.built.push(built);
        }
        Ok(&mut of_variant[place])
    }

    /// What was built, oldest first.
    pub fn built(&self) -> &[BuiltPipeline] {
        &self.built
    }

    /// Drops the bind groups that hold `buffer`, so that it can be freed.
    pub fn forget(&mut self, buffer: &wgpu::Buffer) {
        for pipeline in self.known.values_mut().flatten() {
            pipeline.bind_groups.retain(|_, groups| {
                groups.retain(|group| !group.buffers.contains(buffer));
                !groups.is_empty()
            });
        }
    }
}

impl Pipeline {
    /// The bind group of these tensors.
    ///
    /// # Errors
    /// Where wgpu refuses them; the caller names kernel and tensors.
    pub fn bind_group(&mut self, device: &wgpu::Device, bindings: &[Binding]) -> Result<&wgpu::BindGroup> {
        let mut hasher = self.bind_groups.hasher().build_hasher();
        bindings.iter().for_each(|binding| binding.buffer.hash(&mut hasher));
        let groups = self.bind_groups.entry(hasher.finish()).or_default();
        let buffers = || bindings.iter().map(|binding| binding.buffer);
        let known = groups.iter().position(|group| group.buffers.iter().eq(buffers()));
        let place = known.unwrap_or(groups.len());
        if known.is_none() {
            let group = make_bind_group(device, &self.layout, bindings)?;
            groups.push(BindGroup { buffers: buffers().cloned().collect(), group });
        }
        Ok(&groups[place].group)
    }
}

fn make_bind_group(
    device: &wgpu::Device,
    layout: &wgpu::BindGroupLayout,
    bindings: &[Binding],
) -> Result<wgpu::BindGroup> {
    let entries: Vec<_> = (0..)
        .zip(bindings)
        .map(|(binding, bound)| wgpu::BindGroupEntry { binding, resource: bound.buffer.as_entire_binding() })
        .collect();
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
    match pollster::block_on(scope.pop()) {
        Some(error) => Err(anyhow!("{error}")),
        None => Ok(group),
    }
}

/// Compiles a pipeline, with the checks that it needs or with all.
fn build(
    device: &wgpu::Device,
    signature: &Signature,
    launch: &Launch,
    all_checks: bool,
) -> Result<(Pipeline, BuiltPipeline)> {
    let checks = match all_checks {
        true => ShaderRuntimeChecks::checked(),
        false => {
            ShaderRuntimeChecks { bounds_checks: signature.is_indexed_by_data(), ..ShaderRuntimeChecks::unchecked() }
        }
    };
    let label = launch.variant.label(signature);
    let start = Instant::now();
    let pipeline = compile(device, signature, launch, &label, checks)?;
    let (variant, constants) = (launch.variant, launch.constants.clone());
    let seconds = start.elapsed().as_secs_f64();
    Ok((pipeline, BuiltPipeline { label, variant, constants, checks, seconds }))
}

/// The layout of a kernel's tensors: of all that its header has, whichever a text reads.
fn bind_group_layout(device: &wgpu::Device, signature: &Signature) -> wgpu::BindGroupLayout {
    let entry = |(binding, &(_, access)): (u32, &(&str, Access))| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: access != Access::Write },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(signature.bindings).map(entry).collect();
    let label = Some(signature.name);
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries })
}

fn compile(
    device: &wgpu::Device,
    signature: &Signature,
    launch: &Launch,
    label: &str,
    checks: ShaderRuntimeChecks,
) -> Result<Pipeline> {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(launch.variant.text().into()),
    };
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // SAFETY: an index that a shader computes from sizes is below the tensor's length: the call checks that before it is
    // recorded. An index that is read from a tensor is bounded by `min` or checked by the shader (kernels-tests follow such
    // values through every shader and find one that is neither). No loop is without an end and no divisor is zero; the
    // tests run every shader with all checks on.
    let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
    let layout = bind_group_layout(device, signature);
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(label),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 4 * signature.params.len() as u32,
    });
    let compute = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &launch.constants,
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    if let Some(error) = pollster::block_on(scope.pop()) {
        // wgpu says it in a paragraph.
        let error: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
        return Err(anyhow!("kernel {label} does not compile on this adapter: {}", error.join(" ")));
    }
    Ok(Pipeline { compute, constants: launch.constants.clone(), layout, bind_groups: HashMap::new() })
}
