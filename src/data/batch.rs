//! Packed micro-batches.

/// Token numbers grouped by id, for [`EmbeddingBackward`](crate::kernels::EmbeddingBackward): the tokens group by group
/// and ascending in each, where each group starts (and the last one ends), and the ids, ascending.
pub fn group_by_id(ids: &[u32]) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_by_key(|&token| (ids[token as usize], token));
    let mut group_starts = Vec::new();
    let mut group_ids: Vec<u32> = Vec::new();
    for (place, &token) in order.iter().enumerate() {
        let id = ids[token as usize];
        if group_ids.last() != Some(&id) {
            group_ids.push(id);
            group_starts.push(place as u32);
        }
    }
    group_starts.push(order.len() as u32);
    (order, group_starts, group_ids)
}
