// Rows cut into blocks of block_rows: an invocation owns one column (or four) of one block.
struct Block {
    column: u32,
    first: u32, // row
    end: u32,
}

// The block of invocation `index`, which writes element `index` of [blocks, cols].
fn block_of(index: u32) -> Block {
    let width = params.cols / WIDTH;
    let first = index / width * params.block_rows;
    return Block(index % width, first, min(first + params.block_rows, params.rows));
}
