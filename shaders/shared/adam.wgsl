// What Adam makes of four gradients (Kingma and Ba 2015, as Keras computes it: epsilon outside the bias correction, the step size
// alpha made on the host).
struct Moments {
    m: vec4<f32>,
    v: vec4<f32>,
    delta: vec4<f32>, // to be taken from the weight
}

fn adam(g: vec4<f32>, m: vec4<f32>, v: vec4<f32>) -> Moments {
    let m_new = m + (g - m) * step.one_minus_beta1;
    let v_new = v + (g * g - v) * step.one_minus_beta2;
    return Moments(m_new, v_new, (m_new * step.alpha) / (sqrt(v_new) + step.epsilon));
}
