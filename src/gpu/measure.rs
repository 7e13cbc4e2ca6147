//! What dispatches take.

use std::time::Instant;

use anyhow::Result;
use wgpu::{BufferUsages, Features};

use super::handle::{Gpu, lock};
use super::read_back::BufferPart;

impl Gpu {
    /// Seconds that the dispatches of `work` take: by the GPU's timestamps where it has them, else by the clock.
    ///
    /// # Errors
    /// Where the device has a fault by then.
    pub fn measure(&self, work: impl FnOnce()) -> Result<f64> {
        self.synchronize()?;
        if !self.device.features().contains(Features::TIMESTAMP_QUERY) {
            let start = Instant::now();
            work();
            self.synchronize()?;
            return Ok(start.elapsed().as_secs_f64());
        }
        let query_set = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("time"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: 16,
            usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        lock(&self.recorder).timestamps = Some(query_set.clone());
        work();
        {
            let mut recorder = lock(&self.recorder);
            recorder.timestamps = None;
            recorder.encoder(&self.device).resolve_query_set(&query_set, 0..2, &resolved, 0);
        }
        let part = BufferPart { tensor: "timestamps", buffer: &resolved, offset: 0, size: 16 };
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.download(&[part])?[0]);
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9)
    }
}
