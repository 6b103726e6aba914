//! Graphs: what a capture recorded, and their replay.

use std::sync::Arc;

use super::abi::{Handle, Out, export};
use super::capture::{Mode, exchange_mode, free_memory};
use super::context::Context;
use super::state::driver;
use super::status::{Result, Status};
use super::stream::Stream;
use super::work::{Work, submit};
use crate::report;

const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const KNOWN_FLAGS: u64 = 15;

/// A step of a graph.
pub struct Node {
    /// What it does.
    pub work: Work,
    /// The nodes it comes after.
    pub after: Vec<usize>,
}

/// What a capture recorded. Memory allocated in it lives as long as the graph and everything made from it.
pub struct Recorded {
    context: Handle,
    nodes: Vec<Node>,
    memory: Vec<u64>,
}

impl Recorded {
    /// Nodes in an order in which they can be replayed.
    pub fn new(context: Handle, nodes: Vec<Node>, memory: Vec<u64>) -> Recorded {
        Recorded { context, nodes, memory }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        free_memory(&self.memory);
    }
}

/// A graph.
pub struct Graph {
    handle: Handle,
    recorded: Arc<Recorded>,
}

/// A graph that can be launched.
pub struct GraphExec {
    /// Its context.
    pub context: Handle,
    recorded: Arc<Recorded>,
    flags: u64,
}

impl Graph {
    /// Nodes have no table: their handles hold the low half of the graph's and their own number.
    fn node(&self, index: usize) -> Handle {
        (self.handle & 0xffff_ffff) << 32 | (index + 1)
    }

    fn of_node(node: Handle) -> Result<(Arc<Graph>, usize)> {
        let graphs = &driver()?.graphs;
        let graph = graphs.get(graphs.with_low_half(node >> 32))?;
        let index = (node & 0xffff_ffff).wrapping_sub(1);
        if index < graph.recorded.nodes.len() { Ok((graph, index)) } else { Err(Status::INVALID_HANDLE) }
    }
}

fn add_graph(graph: Out<Handle>, recorded: Recorded) -> Result {
    let recorded = Arc::new(recorded);
    graph.set(driver()?.graphs.add(|handle| Graph { handle, recorded }).handle)
}

fn instantiate(exec: Out<Handle>, graph: Handle, flags: u64) -> Result {
    Context::healthy()?;
    let driver = driver()?;
    let recorded = driver.graphs.get(graph)?.recorded.clone();
    let both = AUTO_FREE | DEVICE_LAUNCH;
    if flags & !KNOWN_FLAGS != 0 || flags & both == both || !exec.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(Status::NOT_SUPPORTED);
    }
    let context = recorded.context;
    let mut own = 0;
    driver.execs.add(|handle| {
        own = handle;
        GraphExec { context, recorded, flags }
    });
    exec.set(own)
}

/// Writes as many as there is room for, and says how many there are.
fn list(into: Out<Handle>, count: Out<usize>, handles: &[Handle]) -> Result {
    if !into.wanted() {
        return count.set(handles.len());
    }
    let room = count.get()?;
    into.set_all(&handles[..room.min(handles.len())])?;
    (handles.len()..room).try_for_each(|index| into.set_at(index, 0))?;
    count.set(room.min(handles.len()))
}

fn edges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) -> Result {
    let graph = driver()?.graphs.get(graph)?;
    let nodes = graph.recorded.nodes.iter().enumerate();
    let pairs: Vec<_> = nodes.flat_map(|(to, node)| node.after.iter().map(move |&from| (from, to))).collect();
    if from.wanted() != to.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let room = if from.wanted() { count.get()? } else { 0 };
    for (index, &(before, after)) in pairs.iter().enumerate().take(room) {
        from.set_at(index, graph.node(before))?;
        to.set_at(index, graph.node(after))?;
    }
    count.set(if from.wanted() { room.min(pairs.len()) } else { pairs.len() })
}

export! {
    /// Begins to record what the stream is given.
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        let (_, stream) = Stream::of(stream)?;
        driver()?.captures.begin(&stream, Mode::of(mode)?)
    }

    /// Ends it and gives the graph; 0 if the capture was spoilt.
    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        let (_, stream) = Stream::of(stream)?;
        graph.set(0)?;
        add_graph(graph, driver()?.captures.end(&stream)?)
    }

    /// 0 no, 1 yes, 2 spoilt.
    fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) {
        let (context, stream) = Stream::of(stream)?;
        let captures = &driver()?.captures;
        if stream.is_legacy() {
            captures.forbid_implicit(context.handle)?;
        }
        status.set(captures.status(&stream).map_or(0, |(_, good)| if good { 1 } else { 2 }))
    }

    /// The same, and the capture's number; the graph can't be had before the end.
    fn cuStreamGetCaptureInfo_v2(
        stream: Handle,
        status: Out<u32>,
        number: Out<u64>,
        graph: Out<Handle>,
        dependencies: Out<usize>,
        count: Out<usize>,
    ) {
        let (_, stream) = Stream::of(stream)?;
        let found = driver()?.captures.status(&stream);
        status.set(found.map_or(0, |(_, good)| if good { 1 } else { 2 }))?;
        let Some((id, _)) = found else { return Ok(()) };
        if graph.wanted() || dependencies.wanted() || count.wanted() {
            return Err(Status::NOT_SUPPORTED);
        }
        number.set_if_wanted(id);
        Ok(())
    }

    /// Sets how strict captures are with this thread.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        driver()?;
        let old = exchange_mode(Mode::of(mode.get()?)?);
        mode.set(old as u32)
    }

    /// A graph without nodes.
    fn cuGraphCreate(graph: Out<Handle>, flags: u32) {
        let context = Context::healthy()?;
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        add_graph(graph, Recorded::new(context.handle, Vec::new(), Vec::new()))
    }

    /// Ends a graph; what was made from it lives on.
    fn cuGraphDestroy(graph: Handle) {
        driver()?.graphs.remove(graph).map(|_| ())
    }

    /// A graph with the same nodes.
    fn cuGraphClone(clone: Out<Handle>, graph: Handle) {
        let driver = driver()?;
        let recorded = driver.graphs.get(graph)?.recorded.clone();
        clone.set(driver.graphs.add(|handle| Graph { handle, recorded }).handle)
    }

    /// Its nodes.
    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let graph = driver()?.graphs.get(graph)?;
        let all: Vec<Handle> = (0..graph.recorded.nodes.len()).map(|index| graph.node(index)).collect();
        list(nodes, count, &all)
    }

    /// The nodes that come after no others.
    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let graph = driver()?.graphs.get(graph)?;
        let all = graph.recorded.nodes.iter().enumerate().filter(|(_, node)| node.after.is_empty());
        list(nodes, count, &all.map(|(index, _)| graph.node(index)).collect::<Vec<_>>())
    }

    /// Which comes after which.
    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        edges(graph, from, to, count)
    }

    /// What a node does.
    fn cuGraphNodeGetType(node: Handle, kind: Out<u32>) {
        let (graph, index) = Graph::of_node(node)?;
        kind.set(graph.recorded.nodes[index].work.node_type())
    }

    /// Makes it launchable.
    fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(exec, graph, flags)
    }

    /// Its flags.
    fn cuGraphExecGetFlags(exec: Handle, flags: Out<u64>) {
        flags.set(driver()?.execs.get(exec)?.flags)
    }

    /// Nothing to upload.
    fn cuGraphUpload(exec: Handle, stream: Handle) {
        Stream::of(stream)?;
        driver()?.execs.get(exec).map(|_| ())
    }

    /// Does all nodes, or records them if this stream is captured too.
    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        let (context, stream) = Stream::of(stream)?;
        let exec = driver()?.execs.get(exec)?;
        if exec.context != context.handle {
            return Err(Status::INVALID_HANDLE);
        }
        report::graph();
        exec.recorded.nodes.iter().try_for_each(|node| submit(&context, &stream, node.work.clone()))
    }

    /// Ends it.
    fn cuGraphExecDestroy(exec: Handle) {
        driver()?.execs.remove(exec).map(|_| ())
    }
}
