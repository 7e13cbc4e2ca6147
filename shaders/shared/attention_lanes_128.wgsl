const LANES = 128u; // invocations of a workgroup
