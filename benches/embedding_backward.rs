use super::case::{Case, Work};
use crate::data::TokenGroups;
use crate::device::Call;
use crate::kernels::EmbeddingBackward;

/// The gradient of `tokens` rows of `cols`, over the upper shard (from row `rows / 2` on) of a table of `rows`.
fn case(tokens: usize, rows: usize, cols: usize) -> Case {
    let work = Work::Bytes(4.0 * (tokens * cols) as f64);
    let mut case = Case::new(EmbeddingBackward::SIGNATURE, format!("{tokens} of {rows} x {cols}"), work);
    let ids = case.indices(tokens, rows);
    let TokenGroups { order, starts: group_starts, ids: group_ids } = TokenGroups::of(&ids);
    let (groups, first, shard) = (group_ids.len() as u32, rows / 2, rows - rows / 2);
    case.u32s("order", order)
        .u32s("group_starts", group_starts)
        .u32s("group_ids", group_ids)
        .input("dy", &[tokens, cols])
        .output("dweight", &[shard, cols])
        .run(move |device, tensors| {
            let [order, group_starts, group_ids, dy, dweight] = tensors else { unreachable!() };
            let (cols, first_row, shard_rows) = (cols as u32, first as u32, shard as u32);
            let scale = 1.5;
            device.run(EmbeddingBackward {
                order,
                group_starts,
                group_ids,
                dy,
                dweight,
                groups,
                cols,
                first_row,
                shard_rows,
                scale,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, 11, 124), (1, 1, 4), (300, 1000, 64), (500, 2, 8)];
    sizes.map(|(tokens, rows, cols)| case(tokens, rows, cols)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, 4096, 576)]
}
