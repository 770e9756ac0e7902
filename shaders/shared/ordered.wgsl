// Which picture has a place in the step's batch. It reads the including file's `order`, and the step.

// Behind the last picture it stands once more: who explains plays whole batches.
fn ordered(place: u32) -> u32 {
    return order[min(step.first + place, dims.pictures - 1u)];
}
