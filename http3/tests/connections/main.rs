//! Whole HTTP/3 connections in a simulation: good peers (`messages`), hostile ones in both roles (`hostile_client`, `hostile_server`).

mod common;
mod hostile_client;
mod hostile_server;
mod messages;
