//! `dqo-wgpu devices`: the adapters, their limits and features, and which one `auto` takes.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{Ended, print};
use crate::format::format_bytes;
use crate::gpu::{AdapterList, DeviceChoice, check_requirements, describe_adapter};

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
        let mut row = json!({ "index": index, "auto": auto.as_ref() == Some(&info), "unfit": unfit });
        if let Some(row) = row.as_object_mut() {
            row.extend(describe_adapter(adapter));
        }
        listed.push(row);
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
        let matrices = adapter["matrices"].as_u64().map_or("none".to_owned(), |size| format!("{size} x {size}"));
        print(format_args!("   subgroups  {subgroups}; matrix units {matrices}; timestamps {timestamps}"));
        if let Some(unfit) = adapter["unfit"].as_str() {
            print(format_args!("   cannot be used: {unfit}"));
        }
    }
    let auto = if cpu["auto"] == true { "  <- auto" } else { "" };
    print(format_args!("cpu  the kernels' CPU twins, {} threads{auto}", cpu["threads"]));
    Ok(Ended::Done)
}
