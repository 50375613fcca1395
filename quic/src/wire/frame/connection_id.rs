//! The frames that give out connection ids and take them back: NEW_CONNECTION_ID and RETIRE_CONNECTION_ID (RFC 9000
//! sections 19.15 and 19.16).

use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// An id that the peer may use from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnectionId {
    pub sequence: CidSequence,
    /// Ids with a smaller number must be retired. At most `sequence`.
    pub retire_prior_to: CidSequence,
    /// 1 to 20 bytes.
    pub id: ConnectionId,
    pub reset_token: ResetToken,
}

impl NewConnectionId {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<NewConnectionId, InvalidFrame> {
        let sequence = CidSequence::from(reader.varint()?);
        let retire_prior_to = CidSequence::from(reader.varint()?);
        // RFC 9000 section 19.15.
        if retire_prior_to > sequence {
            return Err(InvalidFrame("Retire Prior To is larger than the sequence number"));
        }
        let len = reader.u8()?;
        if !(1..=ConnectionId::MAX_LEN).contains(&len.into()) {
            return Err(InvalidFrame("a connection id of no or more than 20 bytes"));
        }
        let id = ConnectionId::new(reader.bytes(len.into())?).ok_or(InvalidFrame("a connection id too long"))?;
        let reset_token = ResetToken::from(reader.array::<{ ResetToken::LEN }>()?);
        Ok(NewConnectionId { sequence, retire_prior_to, id, reset_token })
    }
}

impl EncodeFrame for NewConnectionId {
    fn frame_type(&self) -> FrameType {
        FrameType::NewConnectionId
    }

    fn size(&self) -> usize {
        let numbers = varint_size(self.sequence.as_u64()) + varint_size(self.retire_prior_to.as_u64());
        1 + numbers + 1 + self.id.len() + ResetToken::LEN
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(VarInt::saturating(self.sequence.as_u64()));
        writer.put_varint(VarInt::saturating(self.retire_prior_to.as_u64()));
        writer.put_u8(self.id.len() as u8);
        writer.put_slice(&self.id);
        writer.put_slice(self.reset_token.as_bytes());
    }
}

/// An id that the sender will not use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetireConnectionId {
    pub sequence: CidSequence,
}

impl RetireConnectionId {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<RetireConnectionId, InvalidFrame> {
        Ok(RetireConnectionId { sequence: reader.varint()?.into() })
    }
}

impl EncodeFrame for RetireConnectionId {
    fn frame_type(&self) -> FrameType {
        FrameType::RetireConnectionId
    }

    fn size(&self) -> usize {
        1 + varint_size(self.sequence.as_u64())
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(VarInt::saturating(self.sequence.as_u64()));
    }
}
