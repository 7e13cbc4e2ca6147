//! The paper in miniature: every method on the arithmetic task, with the paper's grids, three seeds, and its tables.
//!
//! `tools/paper` runs it. Everything is made under `paper/` once; a run that was interrupted goes on where it was.

mod data;
mod experiments;
mod knowledge;
mod lab;
mod methods;
mod page;
mod precisions;
mod regime;
mod tables;
mod task;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use dqo_wgpu::model::DeviceOptions;

/// Reproduces the shape of the paper's tables on a task that is small enough for two CPU cores.
#[derive(Parser)]
struct Arguments {
    /// Where to run: auto, gpu, cpu, or an adapter's number or name
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Where everything is made
    #[arg(long, value_name = "DIR", default_value = "paper")]
    output_dir: PathBuf,
    /// The written account, whose results are replaced
    #[arg(long, value_name = "FILE", default_value = "docs/paper.md")]
    markdown: PathBuf,
    /// The page of the results
    #[arg(long, value_name = "FILE", default_value = "docs/paper.html")]
    html: PathBuf,
    /// Only the methods by the precision of large products, in the settings that the written account has of them
    #[arg(long)]
    by_precision: bool,
}

fn main() -> Result<()> {
    let Arguments { device, output_dir, markdown, html, by_precision } = Arguments::parse();
    std::fs::create_dir_all(&output_dir)?;
    let lab = lab::Lab { dir: output_dir, device: DeviceOptions { device, ..DeviceOptions::default() } };
    if by_precision {
        let precisions = precisions::run(&lab, &std::fs::read_to_string(&markdown)?)?;
        page::write_markdown(&markdown, "precisions", vec![tables::by_precision(&precisions)])?;
        println!("{}", markdown.display());
        return Ok(());
    }
    let results = experiments::run(&lab)?;
    page::write_markdown(&markdown, "results", tables::tables(&results))?;
    page::write_html(&html, &results)?;
    println!("{}\n{}", markdown.display(), html.display());
    Ok(())
}
