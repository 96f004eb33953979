//! Decides whether what several clients of one file system saw can be explained by POSIX.
//!
//! A [`history::History`] is a list of calls, each with the time it began, the time it returned and what came of it: a
//! value, an error, or nothing known. [`check::check`] searches for one order of the calls that a local file system
//! could have executed; where there is none it says which call cannot be explained and by which rule, and shows the
//! few calls that prove it ([`explain`]).
//!
//! Nothing here knows any particular file system. Histories come from [`runner`] (real system calls by processes on
//! mount directories), from [`faults`] (a file system in memory with bugs that can be switched on, which proves that
//! the checker finds them) or from files that others wrote ([`history::text`]).
//!
//! Reading order: [`history`], [`search`] (the algorithm), [`model`] (what POSIX says of trees, files and locks),
//! [`rules`] (checks that need no search), [`check`], [`explain`]; then [`workload`], [`runner`], [`faults`].

pub mod dice;
pub mod history;

pub mod model;
pub mod rules;
pub mod search;

pub mod check;
pub mod explain;

pub mod faults;
pub mod runner;
pub mod workload;
