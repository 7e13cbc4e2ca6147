//! How far two series go together.

/// Pearson's correlation; nothing where it is undefined: lengths that differ, fewer than two pairs, a series that is
/// constant or not finite.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.len() < 2 {
        return None;
    }
    let (x, y) = (centred(x)?, centred(y)?);
    let product: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    // Rounding may leave the bounds.
    Some(product.clamp(-1.0, 1.0))
}

/// Spearman's: Pearson's of the ranks, ties at the mean of theirs.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let is_finite = |series: &[f64]| series.iter().all(|value| value.is_finite());
    if is_finite(x) && is_finite(y) { pearson(&ranks(x), &ranks(y)) } else { None }
}

/// A series without its mean, of length 1 as a vector.
fn centred(series: &[f64]) -> Option<Vec<f64>> {
    // A constant series may differ from its own rounded mean, so it is told by its values. The scale keeps squares of
    // very large and very small values in range.
    if series.iter().all(|value| *value == series[0]) {
        return None;
    }
    let scale = series.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
    let mean = series.iter().map(|value| value / scale).sum::<f64>() / series.len() as f64;
    let deviations: Vec<f64> = series.iter().map(|value| value / scale - mean).collect();
    let norm = deviations.iter().map(|deviation| deviation * deviation).sum::<f64>().sqrt();
    (norm.is_finite() && norm > 0.0).then(|| deviations.iter().map(|deviation| deviation / norm).collect())
}

fn ranks(series: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|&a, &b| series[a].total_cmp(&series[b]));
    let mut ranks = vec![0.0; series.len()];
    let mut first = 0;
    for ties in order.chunk_by(|&a, &b| series[a] == series[b]) {
        for &index in ties {
            ranks[index] = first as f64 + (ties.len() - 1) as f64 / 2.0;
        }
        first += ties.len();
    }
    ranks
}
