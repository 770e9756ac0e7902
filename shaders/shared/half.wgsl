// How f32 becomes f16 on its way to cooperative matrices.

// Four values as f16. WGSL lets a value past its range become its largest number, and training would go on with wrong products: so that
// becomes no number, which every sum that it is in shows. (Made of a value that no compiler knows, since WGSL has no such constant.)
fn half4(v: vec4<f32>) -> vec4<f16> {
    let no_number = bitcast<f32>(0x7fc00000u | (dims.batch >> 31u));
    return vec4<f16>(select(v, vec4<f32>(no_number), abs(v) >= vec4<f32>(65520.0)));
}

// The power of two by which gradients are multiplied on their way into f16, whose least normal number is 2^-14: the batch, of which the
// mean loss has made every picture's gradient a share, and 2^8, so that a picture's gradient is exact to 11 bits from 2^-22 on and may
// reach 255. Of a batch in parts it is the part, and as many bits are lost as the parts halve the batch.
fn gradient_exponent() -> u32 {
    return 40u - countLeadingZeros(dims.batch - 1u);
}

fn scaled(v: vec4<f32>) -> vec4<f16> {
    return half4(v * bitcast<f32>((127u + gradient_exponent()) << 23u));
}

// What undoes it in a sum.
fn unscaled(v: vec4<f32>) -> vec4<f32> {
    return v * bitcast<f32>((127u - gradient_exponent()) << 23u);
}
