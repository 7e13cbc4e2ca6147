// A term of the estimate of KL(pi_ref || pi) from tokens that pi_ref has sampled, with x = log pi - log pi_ref:
//   e^x - 1 - x
// whose mean is the KL, as that of e^x is 1, and which is never below 0 (Schulman's k3). By its series where the difference
// would cancel; above MAX_KL_RATIO as at it, so that nothing overflows.

const MAX_KL_RATIO = 60.0;

fn kl_term(x: f32) -> f32 {
    let tail = 1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0))));
    return select(exp(min(x, MAX_KL_RATIO)) - 1.0 - min(x, MAX_KL_RATIO), 0.5 * x * x * tail, abs(x) < 0.25);
}
