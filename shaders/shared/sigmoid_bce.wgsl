// What the sigmoid head says of one picture. It reads the including file's `logits` and `labels`, and
// calls shared/ordered.wgsl.
struct Head {
    p: f32,
    loss: f32,
    correct: f32,
    dlogit: f32,
}

// Of a row of logits that has this place in the step's batch of so many pictures.
fn head(row: u32, place: u32, whole: u32) -> Head {
    let z = logits[row * dims.stride];
    let picture = ordered(place);
    let one = labels[min(picture, dims.images - 1u)] == 1u;
    let t = select(0.0, 1.0, one);
    let e = exp(-abs(z));
    let p = select(e, 1.0, z >= 0.0) / (1.0 + e);
    // max(z,0) - z t without the cancellation: the part of |z| on the wrong side of the label.
    let wrong = select(max(z, 0.0), max(-z, 0.0), one);
    return Head(p, wrong + log1p_unit(e), select(0.0, 1.0, (p > 0.5) == one), (p - t) / f32(whole));
}
