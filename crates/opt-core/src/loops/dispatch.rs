//! Loops that are compiled for several instruction sets. The processor decides at run time which copy runs.

/// Defines a function that is compiled for several instruction sets, with the same bits on each.
///
/// Generic parameters that are numbers come after a semicolon: `fn name<T: Bound; N: usize>(..) {..}`.
#[cfg(not(feature = "limit-simd"))]
macro_rules! dispatched {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$($type:ident $(: $bound:path)?),+ $(; $($number:ident: $kind:ty),+)?>(
            $($($argument:ident)+: $of:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[::multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
        $vis fn $name<$($type $(: $bound)?,)+ $($(const $number: $kind),+)?>($($($argument)+: $of),*) $(-> $result)? $body
    };
}

/// Defines the same function, with a copy for each limit that tests can set: see [`crate::loops::simd`].
#[cfg(feature = "limit-simd")]
macro_rules! dispatched {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$($type:ident $(: $bound:path)?),+ $(; $($number:ident: $kind:ty),+)?>(
            $($($argument:ident)+: $of:ty),* $(,)?
        ) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name<$($type $(: $bound)?,)+ $($(const $number: $kind),+)?>(
            $($crate::loops::dispatch::unmarked!($($argument)+): $of),*
        ) $(-> $result)? {
            #[::multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
            fn any<$($type $(: $bound)?,)+ $($(const $number: $kind),+)?>($($($argument)+: $of),*) $(-> $result)? {
                $crate::loops::simd::note(::multiversion::target::match_target! {
                    "x86_64+avx512f+avx512vl+avx512dq+avx512bw" => $crate::loops::simd::Level::Avx512,
                    "x86_64+avx2+fma" => $crate::loops::simd::Level::Avx2,
                    _ => $crate::loops::simd::Level::Baseline,
                });
                $body
            }
            #[::multiversion::multiversion(targets("x86_64+avx2+fma"))]
            fn avx2<$($type $(: $bound)?,)+ $($(const $number: $kind),+)?>($($($argument)+: $of),*) $(-> $result)? {
                $crate::loops::simd::note(::multiversion::target::match_target! {
                    "x86_64+avx2+fma" => $crate::loops::simd::Level::Avx2,
                    _ => $crate::loops::simd::Level::Baseline,
                });
                $body
            }
            #[inline(never)]
            fn baseline<$($type $(: $bound)?,)+ $($(const $number: $kind),+)?>($($($argument)+: $of),*) $(-> $result)? {
                $crate::loops::simd::note($crate::loops::simd::Level::Baseline);
                $body
            }
            match $crate::loops::simd::limited_to() {
                $crate::loops::simd::Level::Avx512 => any::<$($type,)+ $($($number),+)?>($($crate::loops::dispatch::unmarked!($($argument)+)),*),
                $crate::loops::simd::Level::Avx2 => avx2::<$($type,)+ $($($number),+)?>($($crate::loops::dispatch::unmarked!($($argument)+)),*),
                $crate::loops::simd::Level::Baseline => baseline::<$($type,)+ $($($number),+)?>($($crate::loops::dispatch::unmarked!($($argument)+)),*),
            }
        }
    };
}

/// The name of an argument without its `mut`.
#[cfg(feature = "limit-simd")]
macro_rules! unmarked {
    (mut $argument:ident) => {
        $argument
    };
    ($argument:ident) => {
        $argument
    };
}

pub(crate) use dispatched;
#[cfg(feature = "limit-simd")]
pub(crate) use unmarked;
