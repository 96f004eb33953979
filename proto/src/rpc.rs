//! What a call is: a method number, a request message, a reply message, perhaps raw bytes beside each.

/// A typed method of a service.
pub trait Method: Send + Sync + 'static {
    /// The number in the frame header; unique over all services (see the table in each service's module).
    const NUMBER: u16;
    /// For logs, metrics and errors.
    const NAME: &'static str;
    /// Whether the call changes something; then its head carries (session, sequence) and a repeat is answered
    /// from the record.
    const MUTATES: bool;
    /// What is asked.
    type Request: prost::Message + Default;
    /// What is answered.
    type Reply: prost::Message + Default;
}

/// Declares methods: `methods! { Lookup = 0x201 reads (LookupRequest) -> LookupReply, ... }`.
#[macro_export]
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $number:literal $kind:ident ($request:ty) -> $reply:ty),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl $crate::rpc::Method for $name {
                const NUMBER: u16 = $number;
                const NAME: &'static str = stringify!($name);
                const MUTATES: bool = $crate::methods!(@kind $kind);
                type Request = $request;
                type Reply = $reply;
            }
        )+

        /// The methods of this service: (number, name).
        pub const METHODS: &[(u16, &str)] = &[$(($number, stringify!($name))),+];
    };
    (@kind reads) => { false };
    (@kind mutates) => { true };
}

/// Who may repeat what: the part of every mutation that makes a repeat safe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Origin {
    /// The client's session; 0 means that a repeat is harmless by itself and nothing is recorded.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Grows by one with each mutation of the session.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Every answer below this sequence has arrived and may be forgotten.
    #[prost(uint64, tag = "3")]
    pub acked_below: u64,
}

/// An empty message.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}
