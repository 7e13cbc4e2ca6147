//! Every method again by the precision of large products, in the settings that the written account says were chosen.

use anyhow::{Context, Result};
use dqo_wgpu::device::MatmulPrecision;
use dqo_wgpu::model::DeviceOptions;

use crate::data::Data;
use crate::lab::Lab;
use crate::methods::{Row, described, grids, over_seeds};
use crate::regime;

const PRECISIONS: [MatmulPrecision; 3] = [MatmulPrecision::Highest, MatmulPrecision::Medium, MatmulPrecision::High];

/// Of a precision a row for each method.
pub struct Precisions(pub Vec<(MatmulPrecision, Vec<Row>)>);

/// Trains and evaluates so precisely, each precision in a directory of its own, over the base and the rollouts that all share.
pub fn run(lab: &Lab, account: &str) -> Result<Precisions> {
    let data = Data::prepare(lab)?;
    let of_precision = |matmul_precision| {
        let dir = lab.path("by-precision").join(format!("{matmul_precision}"));
        let lab = Lab { dir, device: DeviceOptions { matmul_precision, ..lab.device.clone() } };
        let rows = grids(&data, regime::grid(&data).collect()).into_iter().map(|(method, grid)| {
            let is_told = |text: &str| account.contains(&format!("| {} | {text} |", method.to_uppercase()));
            let chosen = grid.into_iter().map(|settings| (described(&settings), settings));
            let (text, chosen) = chosen
                .into_iter()
                .find(|(text, _)| is_told(text))
                .with_context(|| format!("the account does not say which settings were chosen for {method}"))?;
            over_seeds(&lab, &data, method, text, &chosen)
        });
        Ok((matmul_precision, rows.collect::<Result<Vec<_>>>()?))
    };
    Ok(Precisions(PRECISIONS.into_iter().map(of_precision).collect::<Result<_>>()?))
}
