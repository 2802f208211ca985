//! Adam and AdamW keep every law, repeat every recorded run, and agree with the textbook.

use opt_adam::Adam;
use opt_conformance::conformance;
use opt_schedules::CosineDecay;

conformance! {
    class: Adam,
    variants: {
        keras: Adam::new(0.125),
        every_field: Adam::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(0.25).amsgrad(true),
        legacy: Adam::new(0.125).legacy().decay(0.25).amsgrad(true),
        scheduled: Adam::new(CosineDecay::new(0.25, 9)).epsilon(1e-3),
        pytorch: Adam::pytorch(0.125).epsilon(0.0).amsgrad(true).weight_decay(0.0625),
        optax: Adam::optax(0.125).beta_1(0.75).beta_2(0.9375).epsilon_root(1e-3),
        optax_amsgrad: Adam::optax(0.125).amsgrad(true).epsilon(0.0),
    },
    golden: ["adam.json"],
    laws: all, except: {
        finite_stays_finite: "v holds squares, in 32 bits infinite from a gradient of 2e19 on; the law goes to 1e25",
    },
}
