//! The room for the magnitudes of a product's rows and columns, which nobody above the products knows of.

use std::mem;
use std::sync::PoisonError;

use anyhow::Result;

use super::data::{DType, Data};
use super::handle::Device;
use super::matmul_precision::{MAGNITUDES, MatmulPrecision, ROOM};
use super::tensor::Tensor;

impl Device {
    /// This device, whose large products are as precise as is said.
    ///
    /// # Errors
    /// Where there is no memory for what they need beside their operands.
    ///
    /// # Panics
    /// Where the device is in use already.
    pub fn with_matmul_precision(self, precision: MatmulPrecision) -> Result<Self> {
        let device = self.with_room(precision, Data::Planned);
        if device.matmul_precision() == MatmulPrecision::Highest {
            return Ok(device);
        }
        let room = device.tensor(ROOM, &[MAGNITUDES], DType::U32)?.into_data();
        Ok(device.with_room(precision, room))
    }

    /// Lends the room for [`MAGNITUDES`], which holds what the last call left there.
    pub fn with_magnitudes<R>(&self, run: impl FnOnce(&mut Tensor) -> R) -> R {
        let mut room = self.0.magnitudes.lock().unwrap_or_else(PoisonError::into_inner);
        let data = mem::replace(&mut *room, Data::Planned);
        let mut lent = Tensor::lent(self, ROOM, MAGNITUDES, DType::U32, data);
        let result = run(&mut lent);
        *room = lent.into_data();
        result
    }
}
