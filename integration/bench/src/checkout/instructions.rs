//! Instructions that this thread executes in user mode, where the kernel counts them: Linux, and a processor whose
//! counters it may use, which few virtual machines have.

#[cfg(target_os = "linux")]
mod counter {
    use perf_event::{Builder, Counter, events::Hardware};

    #[derive(Debug)]
    pub(crate) struct Instructions(Counter);

    impl Instructions {
        /// Counts from now on. Without a counter it says why on stderr.
        pub(crate) fn counted() -> Option<Self> {
            let counting = Builder::new().kind(Hardware::INSTRUCTIONS).build().and_then(|mut counter| {
                counter.enable()?;
                Ok(Self(counter))
            });
            counting.inspect_err(|why| eprintln!("instructions are not counted: perf_event_open: {why}")).ok()
        }

        /// How many there were so far.
        pub(crate) fn executed(&mut self) -> Option<u64> {
            self.0.read().ok()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod counter {
    #[derive(Debug)]
    pub(crate) enum Instructions {}

    impl Instructions {
        pub(crate) fn counted() -> Option<Self> {
            eprintln!("instructions are not counted: there is no perf_event_open here");
            None
        }

        pub(crate) fn executed(&mut self) -> Option<u64> {
            match *self {}
        }
    }
}

pub(super) use counter::Instructions;
