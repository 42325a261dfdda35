//! Carries calls out: the one place for REST requests, functions, batches, actions of backends and the library.
//!
//! What a call answers has happened: whatever is asked after an answer sees its effects. The calls of a batch follow each
//! other. What names several clients is done one after the other and is not one step; binding a uid is, for that uid
//! ([`super::turns`]).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::ask;
use super::questions::{self, IDS};
use crate::close::CloseCause;
use crate::control::Control;
use crate::engine::command::{CloseOrder, Done, Edit, Publish, Tell};
use crate::engine::desk::{Change, Told};
use crate::engine::ids::ClientId;
use crate::engine::name::Name;
use crate::engine::publish::Target;
use crate::protocol::gateway::api::{
    ApiError, Call, ClientText, ErrorCode, Exclusive, Farewell, Message, Outcome, Request, Send, Sent, Targets,
};
use crate::protocol::gateway::{data, names};
use crate::wire::ws::Opcode;

/// How long the answer to a send waits for a shard that is busy.
const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// Carries a call out. An unknown client is an error unless the caller does not mind.
pub async fn perform(control: &Rc<Control>, request: &Request) -> Result<Outcome, ApiError> {
    if let Call::Batch(calls) = &request.call {
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(one(control, call).await);
        }
        return Ok(Outcome::Results(results));
    }
    one(control, request).await
}

async fn one(control: &Rc<Control>, request: &Request) -> Result<Outcome, ApiError> {
    match carry_out(control, &request.call).await {
        Err(error) if error.code == ErrorCode::ClientNotFound && request.lenient => request.call.of_nobody(),
        result => result,
    }
}

async fn carry_out(control: &Rc<Control>, call: &Call) -> Result<Outcome, ApiError> {
    match call {
        Call::Send(message) => send(control, message).await,
        Call::BindUid { client, uid, exclusive } => bind(control, client, uid, *exclusive).await,
        Call::UnbindUid { client } => unbind(control, client).await,
        Call::JoinGroup { client, group } => member(control, Change::Join, client, group).await.map(Outcome::Changed),
        Call::LeaveGroup { client, group } => member(control, Change::Leave, client, group)
            .await
            .map(Outcome::Changed),
        Call::ChangeGroup { group, add, remove } => change_group(control, group, add, remove).await,
        Call::Ungroup { group } => ungroup(control, group).await,
        Call::Close { client, farewell } => close(control, client, farewell).await,
        Call::CloseAll { of, farewell } => close_all(control, of, farewell).await,
        Call::SetSession { client, session } => {
            edit(control, client, data::SET, session).await?;
            Ok(Outcome::Nothing)
        }
        Call::UpdateSession { client, patch } => edit(control, client, data::MERGE, patch).await.map(Outcome::Session),
        Call::Batch(_) => Err(ApiError::bad_request("a batch cannot be part of a batch")),
        question => questions::answer(control, question).await,
    }
}

async fn send(control: &Rc<Control>, send: &Send) -> Result<Outcome, ApiError> {
    let (to, is_one) = match &send.to {
        Targets::Everybody => (Target::Set(names::everybody()), false),
        Targets::Client(client) => (Target::client(ask::client(control, client).await?), true),
        Targets::Any { names, clients } => (Target::any(names.clone(), ask::clients(control, clients).await?), false),
    };
    let except = ask::clients(control, &send.exclude).await?;
    let Message { payload, binary } = send.message.clone();
    let tag = tag(binary);
    let deadline = control.clock.now() + SEND_DEADLINE;
    let publish = |ticket| Publish::once(ticket, to, tag, payload, Tell::Counted, deadline).except(except);
    let told = control
        .ask(&[], |desk, caller| desk.publish(caller, None, publish))
        .await;
    let Told::Published(answer) = told else {
        return Err(ask::overloaded());
    };
    // Who is excluded is nobody here, but not absent.
    if is_one && answer.matched() == 0 && send.exclude.is_empty() {
        return Err(ApiError::client_not_found());
    }
    Ok(Outcome::Sent(Sent {
        matched: answer.matched(),
        queued: answer.done,
        dropped: answer.failed,
        nodes: 1,
    }))
}

/// What a message of this door is marked with: its opcode.
fn tag(binary: bool) -> u16 {
    let opcode = if binary { Opcode::Binary } else { Opcode::Text };
    opcode as u16
}

async fn bind(
    control: &Rc<Control>,
    client: &ClientText,
    uid: &Name,
    exclusive: Exclusive,
) -> Result<Outcome, ApiError> {
    let client = ask::client(control, client).await?;
    let _turn = control.surfaces.gateway.turns.take(uid).await;
    if exclusive == Exclusive::Reject && others(control, client, uid).await?.next().is_some() {
        let message = "another client has this uid";
        return Err(ApiError::new(ErrorCode::UidTaken, message));
    }
    let done = ask::change(control, |desk, caller| {
        desk.change(caller, Change::Join, Some(client), uid.clone(), None)
    })
    .await?;
    if exclusive == Exclusive::Kick {
        for other in others(control, client, uid).await? {
            // One that has left meanwhile is as good.
            let order = CloseOrder::new(CloseCause::Kicked);
            let _ = ask::change(control, |desk, caller| desk.close(caller, other, order)).await;
        }
    }
    Ok(Outcome::PreviousUid(match done {
        Done::Replaced(previous) => Some(previous),
        Done::Unchanged => Some(uid.clone()),
        _ => None,
    }))
}

/// The other clients with this uid. `client` is there.
async fn others(
    control: &Rc<Control>,
    client: ClientId,
    uid: &Name,
) -> Result<impl Iterator<Item = ClientId>, ApiError> {
    let members = ask::members(control, uid, IDS).await?.items;
    let members = members.into_iter().map(|info| info.client);
    Ok(members.filter(move |other| *other != client))
}

async fn unbind(control: &Rc<Control>, client: &ClientText) -> Result<Outcome, ApiError> {
    let client = ask::client(control, client).await?;
    let done = ask::change(control, |desk, caller| desk.unbind(caller, client, names::UID)).await?;
    Ok(Outcome::PreviousUid(match done {
        Done::Replaced(previous) => Some(previous),
        _ => None,
    }))
}

/// Whether a client came into a group or left it.
async fn member(control: &Rc<Control>, change: Change, client: &ClientText, group: &Name) -> Result<bool, ApiError> {
    let client = ask::client(control, client).await?;
    let done = ask::change(control, |desk, caller| {
        desk.change(caller, change, Some(client), group.clone(), None)
    })
    .await?;
    Ok(done != Done::Unchanged)
}

async fn change_group(
    control: &Rc<Control>,
    group: &Name,
    add: &[ClientText],
    remove: &[ClientText],
) -> Result<Outcome, ApiError> {
    let (mut changed, mut not_found) = (0, Vec::new());
    let adding = add.iter().map(|client| (Change::Join, client));
    for (change, client) in adding.chain(remove.iter().map(|client| (Change::Leave, client))) {
        match member(control, change, client, group).await {
            Ok(is) => changed += u64::from(is),
            Err(error) if error.code == ErrorCode::ClientNotFound => not_found.push(*client),
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::GroupChanged { changed, not_found })
}

async fn ungroup(control: &Rc<Control>, group: &Name) -> Result<Outcome, ApiError> {
    let removed = ask::count(control, group).await?;
    let emptied = control
        .ask(&[], |desk, caller| {
            desk.change(caller, Change::Occupy, None, group.clone(), None)
        })
        .await;
    match emptied {
        Told::Done { .. } => Ok(Outcome::Removed(removed)),
        _ => Err(ask::overloaded()),
    }
}

fn order(farewell: &Farewell) -> CloseOrder {
    CloseOrder {
        code: Some(farewell.code),
        reason: Bytes::copy_from_slice(farewell.reason.as_bytes()),
        farewell: farewell
            .message
            .as_ref()
            .map(|message| (tag(message.binary), message.payload.clone())),
        force: farewell.force,
        ..CloseOrder::new(CloseCause::Kicked)
    }
}

async fn close(control: &Rc<Control>, client: &ClientText, farewell: &Farewell) -> Result<Outcome, ApiError> {
    let client = ask::client(control, client).await?;
    ask::change(control, |desk, caller| desk.close(caller, client, order(farewell))).await?;
    Ok(Outcome::Closed(true))
}

async fn close_all(control: &Rc<Control>, of: &Name, farewell: &Farewell) -> Result<Outcome, ApiError> {
    let mut closed = 0;
    for member in ask::members(control, of, IDS).await?.items {
        match ask::change(control, |desk, caller| {
            desk.close(caller, member.client, order(farewell))
        })
        .await
        {
            Ok(_) => closed += 1,
            Err(error) if error.code == ErrorCode::ClientNotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::ClosedCount(closed))
}

/// Changes a session; what it is now.
async fn edit(control: &Rc<Control>, client: &ClientText, verb: u8, patch: &Bytes) -> Result<Bytes, ApiError> {
    let client = ask::client(control, client).await?;
    let edit = Edit {
        verb,
        patch: patch.clone(),
    };
    match ask::change(control, |desk, caller| desk.edit(caller, client, edit)).await? {
        Done::Edited(session) => Ok(session),
        _ => Ok(Bytes::new()),
    }
}
