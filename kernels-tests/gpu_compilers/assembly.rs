//! AMD's machine code: the share of fused multiply-adds among the vector instructions of the innermost loops.

use std::collections::HashMap;
use std::ops::Range;

use regex::Regex;

/// Percent of the vector instructions of the loops that hold fused multiply-adds and no other loop; of branches within them all
/// sides count. None where there is no such loop.
pub fn fma_share(assembly: &str) -> Option<f64> {
    let lines: Vec<&str> = assembly.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).collect();
    let loops = loops(&lines);
    let is_innermost = |outer: &&Range<usize>| {
        let within = |inner: &Range<usize>| inner != *outer && outer.start <= inner.start && inner.end <= outer.end;
        !loops.iter().any(within)
    };
    // Two operations that are issued together stand in a line.
    let vector = Regex::new(r"\bv_[a-z0-9_]+").unwrap();
    // Before RDNA 2 Mesa multiplies and adds in one instruction that rounds twice, which is the faster one there.
    let fused = Regex::new(r"^v_(fma|fmac|mac|mad_f32|pk_fma|dual_fmac|dual_fmaak|dual_fmamk|dot|wmma)").unwrap();
    let (mut all, mut fmas) = (0, 0);
    for body in loops.iter().filter(is_innermost) {
        let operations = || lines[body.clone()].iter().flat_map(|line| vector.find_iter(line));
        let of_loop = operations().filter(|operation| fused.is_match(operation.as_str())).count();
        if of_loop > 0 {
            fmas += of_loop;
            all += operations().count();
        }
    }
    (all > 0).then(|| (1000.0 * f64::from(fmas as u32) / f64::from(all as u32)).round() / 10.0)
}

/// The lines from where a branch goes back to up to the branch; of several branches back to one place the last.
fn loops(lines: &[&str]) -> Vec<Range<usize>> {
    let labels: HashMap<&str, usize> =
        (0..).zip(lines).filter_map(|(place, line)| Some((line.strip_suffix(':')?, place))).collect();
    let mut ends: HashMap<usize, usize> = HashMap::new();
    for (place, line) in
        lines.iter().enumerate().filter(|(_, line)| line.starts_with("s_branch") || line.starts_with("s_cbranch"))
    {
        let target = line.split_whitespace().last().and_then(|label| labels.get(label));
        if let Some(&target) = target.filter(|&&target| target <= place) {
            ends.insert(target, place);
        }
    }
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
    assert_eq!(fma_share("BB0:\n\tv_fmac_f32_e32 v2, v1, v0\n\ts_endpgm\n"), None);
}
