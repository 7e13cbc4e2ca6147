//! What a launch is: a kernel's interface, its variants, a dispatch and the work in it.

use super::rates::Rates;

/// A kernel's name and interface; a test holds the shaders against it.
#[derive(Debug)]
pub struct Signature {
    /// The name of the shader, the module, the test and the bench row.
    pub name: &'static str,
    /// The call's documentation; its first sentence is the formula.
    pub about: &'static str,
    /// Names in binding order, and how the kernel uses each.
    pub bindings: &'static [(&'static str, Access)],
    /// Names and WGSL types of the parameters, in order.
    pub params: &'static [(&'static str, &'static str)],
    /// The texts that compute it.
    pub variants: &'static [Variant],
}

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read>` of u32 that say where the kernel reads or writes: what the call cannot check.
    Index,
    /// `var<storage, read_write>`
    Write,
}

/// One text of a kernel: a shader file and the shared files that complete it.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// What tells it from the kernel's other variants; empty for the only one.
    pub name: &'static str,
    /// The shader file.
    pub source: &'static str,
    /// Shared files, put after the source so that a message's line number is the file's.
    pub includes: &'static [&'static str],
    /// What an adapter must have to run it.
    pub needs: Needs,
}

/// What a text needs of an adapter beyond what every kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// `Features::SUBGROUP`
    Subgroups,
    /// [`MatrixUnits`](super::MatrixUnits): f16 and cooperative matrices, and subgroups that share them.
    Matrices,
}

impl Signature {
    /// Whether the kernel reads or writes where a tensor's values say: its shader always checks its bounds.
    pub fn is_indexed_by_data(&self) -> bool {
        self.bindings.iter().any(|&(_, access)| access == Access::Index)
    }

    /// What the kernel computes, in Markdown: the first sentence of its documentation.
    pub fn formula(&self) -> String {
        let about = self.about.trim();
        // A full stop, not the point of a product: a capital follows.
        let stops = about.match_indices(". ").map(|(stop, _)| stop);
        let end = stops.into_iter().find(|&stop| about[stop + 2..].starts_with(|c: char| c.is_uppercase() || c == '('));
        let sentence = about[..end.unwrap_or(about.len())].trim_end_matches('.');
        sentence.replace("[`", "`").replace("`]", "`")
    }
}

impl Variant {
    /// The whole text.
    pub fn text(&self) -> String {
        // Extensions come first, on the line of what follows them.
        let enabled = match self.needs {
            Needs::Matrices => "enable f16; enable wgpu_cooperative_matrix; ",
            Needs::Nothing | Needs::Subgroups => "",
        };
        enabled.to_owned() + &std::iter::once(&self.source).chain(self.includes).copied().collect::<Vec<_>>().join("\n")
    }

    /// `kernel` or `kernel (variant)`.
    pub fn label(&self, signature: &Signature) -> String {
        if self.name.is_empty() { signature.name.to_owned() } else { format!("{} ({})", signature.name, self.name) }
    }
}

/// A tensor's buffer, as a dispatch binds it.
pub struct Binding<'a> {
    /// The tensor's name, for errors.
    pub tensor: &'a str,
    pub buffer: &'a wgpu::Buffer,
}

/// A dispatch.
pub struct Launch {
    /// Which text.
    pub variant: &'static Variant,
    /// Values of its `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// The grid, in workgroups.
    pub workgroups: [u32; 3],
    /// The work in it.
    pub cost: Cost,
}

/// The work of a dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations; a fused multiply-add is two.
    pub flops: f64,
    /// Bytes of memory moved at least.
    pub bytes: f64,
}

/// What one dispatch may take at most, in seconds of [`Cost::seconds`].
const SECONDS_PER_DISPATCH: f64 = 0.05;

impl Cost {
    /// Seconds at these rates: what keeps dispatches and submissions short.
    pub fn seconds(self, rates: Rates) -> f64 {
        self.flops / rates.flops + self.bytes / rates.bytes
    }

    /// How many of `count` equal parts that each cost this go into one dispatch, so that the dispatches are few, short
    /// enough and alike; at least one.
    pub fn per_dispatch(self, rates: Rates, count: usize) -> usize {
        let count = count.max(1);
        let most = ((SECONDS_PER_DISPATCH / self.seconds(rates)) as usize).clamp(1, count);
        count.div_ceil(count.div_ceil(most))
    }
}

/// The widest row of a dispatch's grid; `GRID_WIDTH` in `shared/grid.wgsl`.
pub const GRID_WIDTH: u32 = 32768;

/// A grid for `count` workgroups in a line, folded where a dimension ends.
///
/// # Panics
/// Where there are 2^32 of them: no tensor has so many elements.
pub fn line(count: usize) -> [u32; 3] {
    let count = u32::try_from(count).expect("fewer than 2^32 workgroups");
    [count.min(GRID_WIDTH), count.div_ceil(GRID_WIDTH), 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dispatches of a product of 1024 rows that is cut every 128.
    fn dispatches(cols: usize, inner: usize, rates: Rates) -> usize {
        let cost = Cost { flops: 2.0 * 128.0 * (cols * inner) as f64, bytes: 0.0 };
        8usize.div_ceil(cost.per_dispatch(rates, 8))
    }

    #[test]
    fn work_is_cut_by_what_the_gpu_does_in_a_second() {
        let radeon_7900_xtx = Rates { flops: 2e13, bytes: 8e11 };
        // The query projection and the LM head of Qwen2-7B.
        for (cols, inner, fast, slow) in [(3584, 3584, 1, 8), (152064, 3584, 2, 8), (256, 256, 1, 1)] {
            assert_eq!(dispatches(cols, inner, radeon_7900_xtx), fast);
            assert_eq!(dispatches(cols, inner, Rates::LEAST), slow);
        }
    }

    #[test]
    fn the_parts_of_a_cut_are_alike() {
        let cost = Cost { flops: 1e9, bytes: 0.0 };
        let rates = Rates { flops: 1.4e11, bytes: 1e10 };
        assert_eq!([0, 1, 7, 8, 15].map(|count| cost.per_dispatch(rates, count)), [1, 1, 7, 4, 5]);
        assert_eq!(Cost::default().per_dispatch(rates, 9), 9);
    }
}
