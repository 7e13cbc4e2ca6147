//! AMD's machine code: what the innermost loops are made of.

use std::collections::HashMap;
use std::ops::Range;

use regex::Regex;

/// What is counted of a way through a loop, and how much of that is wanted there.
#[derive(Clone, Copy, Default)]
struct Way {
    all: u32,
    wanted: u32,
}

/// Percent of the vector instructions of the loops that hold fused multiply-adds and no other loop.
pub fn fma_share(assembly: &str) -> Option<f64> {
    // Two operations that are issued together stand in a line.
    let vector = Regex::new(r"\bv_[a-z0-9_]+").unwrap();
    // Before RDNA 2 Mesa multiplies and adds in one instruction that rounds twice, which is the faster one there.
    let fused = Regex::new(r"^v_(fma|fmac|mac|mad_f32|pk_fma|dual_fmac|dual_fmaak|dual_fmamk|dot|wmma)").unwrap();
    share(assembly, &fused, |line| {
        let operations = || vector.find_iter(line);
        let wanted = operations().filter(|operation| fused.is_match(operation.as_str())).count() as u32;
        Way { all: operations().count() as u32, wanted }
    })
}

/// Percent of the cycles in which the loops that hold products of matrices, and no other loop, issue these and loads, where a product
/// takes so many. Subgroups of 64 take two cycles for a vector instruction, and a load is handed on in one.
pub fn matrix_share(assembly: &str, cycles_of_product: u32) -> Option<f64> {
    let product = Regex::new(r"^v_wmma").unwrap();
    let load = Regex::new(r"^(ds_load|ds_read|global_load|buffer_load)").unwrap();
    let store = Regex::new(r"^(ds_|global_|buffer_)").unwrap();
    share(assembly, &product, |line| match line {
        _ if product.is_match(line) => Way { all: cycles_of_product, wanted: cycles_of_product },
        _ if load.is_match(line) => Way { all: 1, wanted: 1 },
        _ if store.is_match(line) => Way { all: 1, wanted: 0 },
        _ if line.starts_with("v_") => Way { all: 2, wanted: 0 },
        _ => Way::default(),
    })
}

/// Percent of what is counted that is wanted, of the loops with a line that is `sought` and no other loop. Of branches that a whole
/// subgroup takes the longer side counts, of others both. None where there is no such loop.
fn share(assembly: &str, sought: &Regex, count: impl Fn(&str) -> Way) -> Option<f64> {
    let lines: Vec<&str> = assembly.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).collect();
    let labels = (0..).zip(&lines).filter_map(|(place, line)| Some((line.strip_suffix(':')?, place))).collect();
    let loops = loops(&lines, &labels);
    let is_innermost = |outer: &&Range<usize>| {
        let within = |inner: &Range<usize>| inner != *outer && outer.start <= inner.start && inner.end <= outer.end;
        !loops.iter().any(within)
    };
    let has_sought = |body: &&Range<usize>| lines[(*body).clone()].iter().any(|line| sought.is_match(line));
    let ways = loops.iter().filter(is_innermost).filter(has_sought);
    let ways = ways.map(|body| longest_way(&lines, &labels, body, &count));
    let (all, wanted) = ways.fold((0, 0), |sum, way| (sum.0 + way.all, sum.1 + way.wanted));
    (wanted > 0).then(|| (1000.0 * f64::from(wanted) / f64::from(all)).round() / 10.0)
}

/// The way through a loop that counts most.
fn longest_way(lines: &[&str], labels: &HashMap<&str, usize>, body: &Range<usize>, count: impl Fn(&str) -> Way) -> Way {
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
        let own = count(line);
        from[place - body.start] = Way { all: rest.all + own.all, wanted: rest.wanted + own.wanted };
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
    let products = "
BB0:
\tds_load_b128 v[0:3], v8
\tv_wmma_f32_16x16x16_f16 v[8:15], v[0:7], v[0:7], v[8:15]
\tv_add_f32 v5, v5, v5
\tds_store_b128 v8, v[0:3]
\ts_cbranch_scc0 BB0
\ts_endpgm
";
    assert_eq!(matrix_share(products, 16), Some(85.0));
    assert_eq!(matrix_share(assembly, 16), None);
    assert_eq!(fma_share("BB0:\n\tv_fmac_f32_e32 v2, v1, v0\n\ts_endpgm\n"), None);
}
