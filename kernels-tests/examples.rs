//! The examples of what a library user writes run.

#[path = "../examples/own_kernel/main.rs"]
mod own_kernel;

#[test]
fn a_kernel_of_ones_own_computes_the_same_everywhere() {
    own_kernel::main().unwrap();
}
