// Scores whose rows are queries, and whose columns are keys, on matrix units.
fn score_left(place: u32) -> Left {
    return coopLoadT<Left>(&q[place], COLS);
}

fn score_right(place: u32) -> Right {
    return coopLoad<Right>(&k[place], COLS);
}
