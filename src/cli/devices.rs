//! `dqo-wgpu devices`: the adapters, their limits and features, and which one `auto` takes.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use wgpu::Features;

use super::{Ended, print};
use crate::format::format_bytes;
use crate::gpu::DeviceChoice;
use crate::gpu::{AdapterList, check_requirements};

#[derive(Args)]
pub struct DevicesArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DevicesArgs) -> Result<Ended> {
    let adapters = AdapterList::find();
    let auto = adapters.choose(&DeviceChoice::Auto)?.map(|adapter| adapter.get_info());
    let mut listed = Vec::new();
    for (index, adapter) in adapters.iter() {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let unfit = check_requirements(&info.name, features, &limits).err().map(|error| error.to_string());
        listed.push(json!({
            "index": index,
            "name": info.name,
            "backend": format!("{:?}", info.backend),
            "type": format!("{:?}", info.device_type),
            "driver": format!("{} {}", info.driver, info.driver_info),
            "auto": auto.as_ref() == Some(&info),
            "unfit": unfit,
            "max_binding_bytes": limits.max_storage_buffer_binding_size,
            "max_buffer_bytes": limits.max_buffer_size,
            "workgroup_memory_bytes": limits.max_compute_workgroup_storage_size,
            "workgroup_invocations": limits.max_compute_invocations_per_workgroup,
            "subgroups": features.contains(Features::SUBGROUP),
            "subgroup_sizes": [info.subgroup_min_size, info.subgroup_max_size],
            "timestamps": features.contains(Features::TIMESTAMP_QUERY),
        }));
    }
    let cpu = json!({ "threads": rayon::current_num_threads(), "auto": auto.is_none() });
    if args.json {
        print(json!({ "adapters": listed, "cpu": cpu }));
        return Ok(Ended::Done);
    }
    for adapter in &listed {
        let text = |name: &str| adapter[name].as_str().unwrap_or_default().to_owned();
        let bytes = |name: &str| format_bytes(adapter[name].as_u64().unwrap_or(0));
        let auto = if adapter["auto"] == true { "  <- auto" } else { "" };
        print(format_args!("{}  {} ({}, {}){auto}", adapter["index"], text("name"), text("backend"), text("type")));
        print(format_args!("   driver     {}", text("driver")));
        print(format_args!(
            "   tensors    {} a binding, {} a buffer",
            bytes("max_binding_bytes"),
            bytes("max_buffer_bytes")
        ));
        let invocations = &adapter["workgroup_invocations"];
        print(format_args!("   workgroups {invocations} invocations, {} of memory", bytes("workgroup_memory_bytes")));
        let subgroups = if adapter["subgroups"] == true {
            format!("of {} to {}", adapter["subgroup_sizes"][0], adapter["subgroup_sizes"][1])
        } else {
            "none".to_owned()
        };
        let timestamps = if adapter["timestamps"] == true { "yes" } else { "no" };
        print(format_args!("   subgroups  {subgroups}; timestamps {timestamps}"));
        if let Some(unfit) = adapter["unfit"].as_str() {
            print(format_args!("   cannot be used: {unfit}"));
        }
    }
    let auto = if cpu["auto"] == true { "  <- auto" } else { "" };
    print(format_args!("cpu  the kernels' CPU twins, {} threads{auto}", cpu["threads"]));
    Ok(Ended::Done)
}
