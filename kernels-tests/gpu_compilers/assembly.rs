//! AMD's machine code: the share of fused multiply-adds among the vector instructions of the innermost loops.

use std::collections::HashMap;
use std::ops::Range;

use regex::Regex;

/// Vector instructions of a way through a loop.
#[derive(Clone, Copy, Default)]
struct Way {
    all: u32,
    fused: u32,
}

/// Percent of the vector instructions of the loops that hold fused multiply-adds and no other loop. Of branches that a whole
/// subgroup takes the longer side counts, of others both. None where there is no such loop.
pub fn fma_share(assembly: &str) -> Option<f64> {
    let lines: Vec<&str> = assembly.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).collect();
    let labels = (0..).zip(&lines).filter_map(|(place, line)| Some((line.strip_suffix(':')?, place))).collect();
    let loops = loops(&lines, &labels);
    let is_innermost = |outer: &&Range<usize>| {
        let within = |inner: &Range<usize>| inner != *outer && outer.start <= inner.start && inner.end <= outer.end;
        !loops.iter().any(within)
    };
    let ways = loops.iter().filter(is_innermost).map(|body| longest_way(&lines, &labels, body));
    let (all, fused) = ways.filter(|way| way.fused > 0).fold((0, 0), |sum, way| (sum.0 + way.all, sum.1 + way.fused));
    (all > 0).then(|| (1000.0 * f64::from(fused) / f64::from(all)).round() / 10.0)
}

/// The way through a loop with the most vector instructions.
fn longest_way(lines: &[&str], labels: &HashMap<&str, usize>, body: &Range<usize>) -> Way {
    // Two operations that are issued together stand in a line.
    let vector = Regex::new(r"\bv_[a-z0-9_]+").unwrap();
    // Before RDNA 2 Mesa multiplies and adds in one instruction that rounds twice, which is the faster one there.
    let fused = Regex::new(r"^v_(fma|fmac|mac|mad_f32|pk_fma|dual_fmac|dual_fmaak|dual_fmamk|dot|wmma)").unwrap();
    let mut from = vec![Way::default(); body.len() + 1];
    for place in body.clone().rev() {
        let line = lines[place];
        let next = &from[place + 1 - body.start];
        let jump =
            jump_of(line, labels).filter(|to| (place + 1..body.end).contains(to)).map(|to| &from[to - body.start]);
        let rest = match jump {
            Some(jump) if line.starts_with("s_branch") || jump.all > next.all => *jump,
            _ => *next,
        };
        let operations = || vector.find_iter(line);
        from[place - body.start] = Way {
            all: rest.all + operations().count() as u32,
            fused: rest.fused + operations().filter(|operation| fused.is_match(operation.as_str())).count() as u32,
        };
    }
    from[0]
}

/// Where a branch goes.
fn jump_of(line: &str, labels: &HashMap<&str, usize>) -> Option<usize> {
    let is_branch = line.starts_with("s_branch") || line.starts_with("s_cbranch");
    line.split_whitespace().last().filter(|_| is_branch).and_then(|label| labels.get(label)).copied()
}

/// The lines from where a branch goes back to up to the branch; of several branches back to one place the last.
fn loops(lines: &[&str], labels: &HashMap<&str, usize>) -> Vec<Range<usize>> {
    let back =
        (0..lines.len()).filter_map(|place| Some((jump_of(lines[place], labels).filter(|to| *to <= place)?, place)));
    let ends: HashMap<usize, usize> = back.collect();
    ends.into_iter().map(|(start, end)| start..end).collect()
}

#[test]
fn only_the_innermost_loops_with_fused_multiply_adds_count() {
    let assembly = "
BB0:
\tv_mov_b32_e32 v0, 0                 ; 7e000280
BB1:
\tv_mov_b32_e32 v1, 0                 ; 7e000280
\ts_cbranch_scc1 BB4
BB2:
\tv_fmac_f32_e32 v2, v1, v0           ; 56a4bd70
\tv_dual_fmac_f32 v3, v1, v0 :: v_dual_add_f32 v4, v1, v0
\tds_load_b64 v[0:1], v2
\ts_cbranch_execz BB3
\tv_fma_f32 v4, v1, v2, v3
BB3:
\ts_cbranch_scc0 BB2
BB5:
\tv_add_f32 v5, v5, v5
\ts_cbranch_scc0 BB5
\ts_branch BB1
BB4:
\ts_endpgm
";
    assert_eq!(fma_share(assembly), Some(75.0));
    // A subgroup takes one side: the longer one.
    let sides = "
BB0:
\tv_fmac_f32_e32 v2, v1, v0
\ts_cbranch_scc0 BB2
BB1:
\tv_mov_b32_e32 v1, 0
\tv_mov_b32_e32 v1, 0
\ts_branch BB3
BB2:
\tv_mov_b32_e32 v1, 0
BB3:
\tv_fmac_f32_e32 v2, v1, v0
\ts_cbranch_scc0 BB0
\ts_endpgm
";
    assert_eq!(fma_share(sides), Some(50.0));
    assert_eq!(fma_share("BB0:\n\tv_fmac_f32_e32 v2, v1, v0\n\ts_endpgm\n"), None);
}
