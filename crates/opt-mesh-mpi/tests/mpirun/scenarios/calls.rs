//! Calls between ranks.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use opt_core::collective::{Collective, CollectiveError, Numbers};
use opt_mesh::{Engine, Mesh};
use opt_mesh_mpi::Mpi;

/// Every call, with empty, short, and long contents that do not fit into an announcement.
fn all_calls(world: &dyn Collective) {
    let (rank, ranks) = (world.rank(), world.ranks());
    for len in [0, 1, 7, 60, 61, 62, 121, 122, 123, 1000, 5000] {
        let numbers = |rank: usize| (0..len).map(move |i| (i + rank * 3) as f64);
        let want: Vec<f64> = (0..len).map(|i| (0..ranks).map(|rank| (i + rank * 3) as f64).sum()).collect();
        assert_eq!(world.sum(Numbers::F64(numbers(rank).collect())), Ok(Numbers::F64(want.clone())));
        let single = |numbers: &[f64]| Numbers::F32(numbers.iter().map(|&x| x as f32).collect());
        assert_eq!(world.sum(single(&numbers(rank).collect::<Vec<_>>())), Ok(single(&want)));

        // Each rank sends another length.
        let bytes = |rank: usize| vec![rank as u8 + 1; len * (rank + 1)];
        assert_eq!(world.gather(bytes(rank)), Ok((0..ranks).map(bytes).collect()));

        for root in 0..ranks {
            let own = if rank == root { bytes(root) } else { vec![9; 3] };
            assert_eq!(world.broadcast(root, own), Ok(bytes(root)));
        }
    }
    assert_eq!(world.broadcast(ranks, vec![]), Err(CollectiveError::NoRank { rank: ranks, ranks }));
}

pub(super) fn calls() {
    all_calls(&*Mpi::start().unwrap().world());
}

/// Messages that are not a multiple of the piece size.
pub(super) fn pieces() {
    all_calls(&*Mpi::options().piece_bytes(700).start().unwrap().world());
}

/// Sums have the same bits on every rank, and each time. (A reduce-scatter would not: it adds in another order.)
/// Short sums have the bits of threads.
pub(super) fn same_bits() {
    let mpi = Mpi::start().unwrap();
    let world = mpi.world();
    let number = |rank: usize, i: usize| ((i * 7919 + rank * 104_729) as f64).sin() / 3.0;
    for len in [10, 50_000] {
        let own: Vec<f64> = (0..len).map(|i| number(world.rank(), i)).collect();
        let sum = || match world.sum(Numbers::F64(own.clone())).unwrap() {
            Numbers::F64(sum) => sum,
            other => panic!("{other:?}"),
        };
        let first = sum();
        assert!((0..5).all(|_| sum() == first));
        let bits = first.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let answers = world.gather(bits.clone()).unwrap();
        assert!(answers.iter().all(|answer| *answer == bits));
        if len == 10 {
            let in_order = |i| (1..world.ranks()).fold(number(0, i), |sum, rank| sum + number(rank, i));
            assert_eq!(first, (0..len).map(in_order).collect::<Vec<_>>());
        }
    }
}

/// MPI would write beyond buffers, or never return. So ranks detect the difference first, and are in step afterwards.
pub(super) fn other_lengths() {
    let mpi = Mpi::start().unwrap();
    let world = mpi.world();
    for lengths in [[1, 2, 1], [10, 1000, 1000], [70_000, 70_000, 70_001]] {
        let error = world.sum(Numbers::F64(vec![1.0; lengths[world.rank()]])).unwrap_err();
        assert!(matches!(error, CollectiveError::Disagreement { what: "the call", .. }), "{error}");
    }
    let error = match world.rank() {
        0 => world.sum(Numbers::F32(vec![1.0])).map(drop),
        1 => world.sum(Numbers::F64(vec![1.0])).map(drop),
        _ => world.gather(vec![1]).map(drop),
    };
    assert!(matches!(error, Err(CollectiveError::Disagreement { rank: 1, .. })), "{error:?}");
    assert_eq!(world.sum(Numbers::F32(vec![1.0])), Ok(Numbers::F32(vec![3.0])));
}

/// Groups along each dimension, in the order of their ranks.
pub(super) fn groups() {
    let mesh = Mesh::new(Mpi::start().unwrap(), &[("batch", 2), ("model", 2)]).unwrap();
    let own = || vec![mesh.rank() as u8];
    let [row, column] = [mesh.coordinates()[0] as u8, mesh.coordinates()[1] as u8];
    let batch = mesh.group(&["batch"]).unwrap();
    assert_eq!(batch.gather(own()), Ok(vec![vec![column], vec![2 + column]]));
    let model = mesh.group(&["model"]).unwrap();
    assert_eq!(model.gather(own()), Ok(vec![vec![2 * row], vec![2 * row + 1]]));
    let both = mesh.group(&["model", "batch"]).unwrap();
    assert_eq!(both.gather(own()), Ok((0..4).map(|rank| vec![rank]).collect()));
    assert_eq!((batch.rank(), model.rank(), both.rank()), (row.into(), column.into(), mesh.rank()));
    // A group that exists is not made again, so a single rank may ask for it.
    assert!(mesh.rank() != 0 || Arc::ptr_eq(&batch, &mesh.group(&["batch"]).unwrap()));
    all_calls(&*model);
}

/// Any thread may call; one thread talks to MPI.
pub(super) fn from_any_thread() {
    let world = Mpi::start().unwrap().world();
    for i in 0..20 {
        let other = Arc::clone(&world);
        let sum = thread::spawn(move || other.sum(Numbers::F64(vec![f64::from(i)])));
        assert_eq!(sum.join().unwrap(), Ok(Numbers::F64(vec![2.0 * f64::from(i)])));
        assert_eq!(world.gather(vec![1]), Ok(vec![vec![1]; 2]));
    }
}

/// A sum continues while its caller does something else, and so do the following sums.
pub(super) fn meanwhile() {
    let mpi = Mpi::start().unwrap();
    let world = mpi.world();
    world.gather(vec![]).unwrap();
    let len = 4_000_000;
    let first = world.start_sum(Numbers::F32(vec![1.0; len])).unwrap();
    let second = world.start_sum(Numbers::F32(vec![2.0; len])).unwrap();
    thread::sleep(Duration::from_secs(3));
    let start = Instant::now();
    assert_eq!(first.wait(), Ok(Numbers::F32(vec![2.0; len])));
    assert_eq!(second.wait(), Ok(Numbers::F32(vec![4.0; len])));
    println!("waited {:?} for sums that had three seconds", start.elapsed());
}
