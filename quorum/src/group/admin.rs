//! What people ask of a group: who shall be in it and who shall lead.

use proto::error::{Code, WireError};
use proto::id::MemberId;
use proto::raft::{LeaderTransfer, MemberAdd, MemberAdded, MemberRemove};
use proto::rpc::Empty;
use rt::rpc::connector::Address;
use rt::rpc::{Request, Response, parse};

use super::Group;
use crate::error::QuorumError;

pub(super) async fn add(group: &Group, request: &Request) -> Result<Response, WireError> {
    let ask = parse::<MemberAdd>(request)?;
    ours(group, ask.group)?;
    Address::parse(&ask.addr)?;
    let member = group.admit(ask.addr, request.deadline).await?;
    Ok(Response::of(&MemberAdded { member: member.0 }))
}

pub(super) async fn remove(group: &Group, request: &Request) -> Result<Response, WireError> {
    let ask = parse::<MemberRemove>(request)?;
    ours(group, ask.group)?;
    group.remove_member(MemberId(ask.member), request.deadline).await?;
    Ok(Response::of(&Empty {}))
}

pub(super) async fn transfer(group: &Group, request: &Request) -> Result<Response, WireError> {
    let ask = parse::<LeaderTransfer>(request)?;
    ours(group, ask.group)?;
    let status = group.status();
    if !group.driver.leads() {
        return Err(QuorumError::NotLeader { group: group.driver.group(), leader: leader(group) }.into());
    }
    if ask.to == status.member {
        return Ok(Response::of(&Empty {}));
    }
    let votes = status.voters.iter().any(|voter| voter.starts_with(&format!("{}=", ask.to)));
    if ask.to != 0 && !votes {
        let text =
            format!("member {} of group-{} does not vote: only a voter can lead", ask.to, status.group);
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    if status.voters.len() < 2 {
        let text = format!("group-{} has one voter: nobody else could lead", status.group);
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    group.transfer_leadership(Some(ask.to).filter(|to| *to != 0).map(MemberId)).await?;
    Ok(Response::of(&Empty {}))
}

fn leader(group: &Group) -> Option<String> {
    group.members().remove(&group.status().leader)
}

fn ours(group: &Group, asked: u64) -> Result<(), WireError> {
    let own = group.driver.group().0;
    if asked == 0 || asked == own {
        return Ok(());
    }
    Err(WireError::new(
        Code::BadRequest,
        format!("group-{asked} is not here, this is a member of group-{own}"),
    ))
}
