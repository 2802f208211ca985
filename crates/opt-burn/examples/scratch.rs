use std::time::Instant;
use opt_core::{Description, Optimizer, Variable};
use optimizers::Sgd;
fn main() {
    let n = 1024; let k = 200;
    let mut values = vec![vec![0.5f32; n]; k];
    let grads = vec![vec![1e-3f32; n]; k];
    let names: Vec<String> = (0..k).map(|i| i.to_string()).collect();
    let mut opt: Optimizer<Sgd, f32> = Optimizer::builder(Sgd::pytorch(1e-4)).threads(1).build().unwrap();
    let (mut a, mut b, mut c, mut d) = (vec![], vec![], vec![], vec![]);
    for _ in 0..200 {
        let t = Instant::now();
        opt.apply_gradients(names.iter().zip(&mut values).zip(&grads).map(|((n, v), g)| Variable::new(n.as_str(), v).gradient(g))).unwrap();
        a.push(t.elapsed());
        let t = Instant::now();
        let mut step = opt.begin(names.iter().zip(&grads).map(|(name, g)| Description::new(name.as_str(), [n]).gradient(g))).unwrap();
        b.push(t.elapsed());
        let t = Instant::now();
        for (i, v) in values.iter_mut().enumerate() { step.update(i, v).unwrap(); }
        c.push(t.elapsed());
        let t = Instant::now();
        step.finish().unwrap();
        d.push(t.elapsed());
    }
    for (name, mut l) in [("apply", a), ("begin", b), ("update", c), ("finish", d)] { l.sort(); println!("{name} {:?} min {:?}", l[l.len()/2], l[0]); }
}
