//! A Vulkan driver's compiler, asked for what it says of its work (`VK_KHR_pipeline_executable_properties`).

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};

use ash::vk;

use super::spirv::Shader;

/// The first Vulkan device, opened as wgpu opens it but to compile alone.
pub struct Compiler {
    // Keeps the loader's library open.
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    /// Whether the driver checks the bounds of buffers itself.
    pub robust: bool,
    /// Whether the code is asked for: writing it out takes others as long as compiling, and only AMD's is read.
    tells_code: bool,
}

/// AMD's number among vendors.
const AMD: u32 = 0x1002;

/// What a driver says of a pipeline, under its own names.
pub struct Said {
    pub statistics: BTreeMap<String, f64>,
    /// The code, by the name of its form.
    pub texts: BTreeMap<String, String>,
}

impl Compiler {
    /// # Panics
    /// Where there is no Vulkan device, or its driver says nothing of pipelines.
    pub fn open() -> Self {
        // SAFETY: calls into the driver with structures that live through them; what is made is destroyed once, by `drop`,
        // the device before the instance and everything of the device before it.
        unsafe {
            let entry = ash::Entry::load().expect("a Vulkan loader");
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None).expect("a Vulkan instance");
            let physical = *instance.enumerate_physical_devices().unwrap().first().expect("a Vulkan device");

            let extensions = instance.enumerate_device_extension_properties(physical).unwrap();
            let has = |name: &CStr| extensions.iter().any(|found| found.extension_name_as_c_str() == Ok(name));
            assert!(has(vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME), "the driver says nothing of its pipelines");
            let robust = has(vk::EXT_ROBUSTNESS2_NAME);
            let mut names = vec![vk::KHR_PIPELINE_EXECUTABLE_PROPERTIES_NAME.as_ptr()];
            names.extend(robust.then_some(vk::EXT_ROBUSTNESS2_NAME.as_ptr()));

            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut sizes = vk::PhysicalDeviceSubgroupSizeControlFeatures::default().subgroup_size_control(true);
            let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default()
                .robust_buffer_access2(true)
                .robust_image_access2(true);
            let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            // Matrix units, and what wgpu enables with them.
            let has_matrices = has(vk::KHR_COOPERATIVE_MATRIX_NAME);
            names.extend(has_matrices.then_some(vk::KHR_COOPERATIVE_MATRIX_NAME.as_ptr()));
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let mut halves = vk::PhysicalDeviceShaderFloat16Int8Features::default().shader_float16(true);
            let mut memory_model = vk::PhysicalDeviceVulkanMemoryModelFeatures::default()
                .vulkan_memory_model(true)
                .vulkan_memory_model_device_scope(true);
            let mut info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queue)
                .enabled_extension_names(&names)
                .enabled_features(&features)
                .push_next(&mut executables)
                .push_next(&mut sizes);
            if robust {
                info = info.push_next(&mut robustness);
            }
            if has_matrices {
                info = info.push_next(&mut matrices).push_next(&mut halves).push_next(&mut memory_model);
            }
            let device = instance.create_device(physical, &info, None).expect("the device opens");
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            let tells_code = instance.get_physical_device_properties(physical).vendor_id == AMD;
            Self { _entry: entry, instance, device, executables, robust, tells_code }
        }
    }

    /// Compiles a shader.
    ///
    /// # Errors
    /// The driver's error.
    pub fn compile(&self, shader: &Shader) -> Result<Said, vk::Result> {
        let bindings: Vec<_> = (0..shader.bindings)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let ranges =
            [vk::PushConstantRange { stage_flags: vk::ShaderStageFlags::COMPUTE, offset: 0, size: shader.immediates }];
        let ranges = if shader.immediates == 0 { &[][..] } else { &ranges };
        // SAFETY: as in `open`; nothing that is made here is used after it is destroyed.
        unsafe {
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&set, None)?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(ranges);
            let layout = self.device.create_pipeline_layout(&info, None)?;
            let module = vk::ShaderModuleCreateInfo::default().code(&shader.words);
            let module = self.device.create_shader_module(&module, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let code = match self.tells_code {
                true => vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                false => vk::PipelineCreateFlags::empty(),
            };
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | code)
                .stage(stage)
                .layout(layout);
            let pipelines = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let said = pipelines.map_err(|(_, error)| error).and_then(|pipelines| {
                let said = self.said(pipelines[0]);
                self.device.destroy_pipeline(pipelines[0], None);
                said
            });
            self.device.destroy_shader_module(module, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(sets[0], None);
            said
        }
    }

    /// What the driver says of a pipeline of this device that was made to be asked.
    unsafe fn said(&self, pipeline: vk::Pipeline) -> Result<Said, vk::Result> {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: the pipeline is whole, and was made with the flag for it.
        let found = unsafe { self.executables.get_pipeline_executable_statistics(&executable)? };
        let statistics = found.iter().map(|statistic| {
            // SAFETY: the format says which member was written.
            let value = unsafe {
                match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64,
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
                    _ => statistic.value.u64 as f64,
                }
            };
            (name(&statistic.name), value)
        });
        let texts = if self.tells_code { self.texts(&executable)? } else { BTreeMap::new() };
        Ok(Said { statistics: statistics.collect(), texts })
    }

    /// The forms of a pipeline's code that are text.
    fn texts(&self, executable: &vk::PipelineExecutableInfoKHR) -> Result<BTreeMap<String, String>, vk::Result> {
        // SAFETY: of a pipeline as in `said`.
        let mut forms = unsafe { self.executables.get_pipeline_executable_internal_representations(executable)? };
        let mut texts: Vec<Vec<u8>> = forms.iter().map(|form| vec![0; form.data_size]).collect();
        for (form, text) in forms.iter_mut().zip(&mut texts) {
            form.p_data = text.as_mut_ptr().cast();
        }
        let mut count = forms.len() as u32;
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: as many forms as `count` says, each with a buffer of the size that the driver asked for.
        unsafe { get(self.device.handle(), executable, &mut count, forms.as_mut_ptr()).result()? };
        let is_text = |form: &vk::PipelineExecutableInternalRepresentationKHR| form.is_text == vk::TRUE;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        let named = forms.iter().zip(&texts).filter(|(form, _)| is_text(form));
        Ok(named.map(|(form, bytes)| (name(&form.name), text(bytes))).collect())
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // SAFETY: nothing of either is left.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

fn name(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
