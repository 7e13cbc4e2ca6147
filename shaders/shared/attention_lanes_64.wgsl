const LANES = 64u; // invocations of a workgroup
