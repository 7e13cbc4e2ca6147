//! The GPU through wgpu: adapters and their limits, buffers, pipelines, recording; what a launch is.

mod activity;
mod adapter;
mod choice;
mod fault;
mod handle;
mod launch;
mod limits;
mod measure;
mod pipeline;
mod rates;
mod read_back;
mod recorder;
mod settings;
mod traits;

pub use activity::Activity;
pub use adapter::{
    AdapterList, MAX_BINDINGS, MAX_IMMEDIATE_BYTES, MAX_INVOCATIONS, MAX_WORKGROUP_BYTES, check_requirements,
    describe_adapter, take_turn,
};
pub use choice::DeviceChoice;
pub use handle::Gpu;
pub use launch::{Access, Binding, Cost, GRID_WIDTH, Launch, Needs, Signature, Variant, line};
pub use limits::{Limits, system_memory};
pub use pipeline::BuiltPipeline;
pub use rates::Rates;
pub use read_back::{BufferPart, Load};
pub use recorder::TRANSFER_BYTES;
pub use settings::Settings;
pub use traits::{MAX_MATRICES_WORKGROUP_BYTES, MatrixSize, MatrixUnits, Subgroups, Traits};
