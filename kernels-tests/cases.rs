//! Every kernel's cases on every device, held against the f64 twin: a test for each kernel.

use crate::harness::check;

macro_rules! tests {
    ($($name:ident: $call:ident,)*) => {
        $(
            #[test]
            fn $name() {
                dqo_wgpu::benches::$name::tests().iter().for_each(check);
            }
        )*
    };
}
dqo_wgpu::for_each_kernel!(tests);
