//! An assembler for the few eBPF instructions that the gate needs, with named places to jump to.
//!
//! It checks nothing about the program: that is the kernel's verifier's work. Source: RFC 9669.
//! The one thing to know: [`Program::finish`] fails on a jump to a place that was never set, so
//! a program that exists is complete.

/// A register. `R0` is a result, `R1` to `R5` are arguments that a call destroys, `R6` to `R9`
/// survive calls, `R10` is the (fixed) end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R10 = 10,
}

/// How many bytes are loaded or stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// When a jump is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum If {
    Equal = 0x10,
    NotEqual = 0x50,
    /// Unsigned.
    Less = 0xa0,
}

/// A function of the kernel: its number in `enum bpf_func_id` (linux/bpf.h).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Helper {
    MapLookupElem = 1,
    SkbLoadBytes = 26,
    KtimeGetBootNs = 125,
}

const CLASS_LOAD_MEMORY: u8 = 0x61;
const CLASS_STORE_IMMEDIATE: u8 = 0x62;
const CLASS_JUMP: u8 = 0x05;
const FROM_REGISTER: u8 = 0x08;
const LOAD_IMMEDIATE_64: u8 = 0x18;
const MOVE: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const TO_BIG_ENDIAN: u8 = 0xdc;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_PSEUDO_MAP_FD`, in place of the source register.
const MAP_FD: u8 = 1;

/// A program under construction; `L` names the places to jump to.
#[derive(Debug)]
pub(crate) struct Program<L> {
    code: Vec<[u8; 8]>,
    places: Vec<(L, usize)>,
    jumps: Vec<(usize, L)>,
}

/// A jump to a place that was never set, or is too far away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unplaced<L>(pub(crate) L);

impl<L: Copy + PartialEq> Program<L> {
    pub(crate) fn new() -> Self {
        Self {
            code: Vec::new(),
            places: Vec::new(),
            jumps: Vec::new(),
        }
    }

    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, value: i32) {
        // Two nibbles, the destination in the one that comes first in the machine's bit order.
        let registers = match cfg!(target_endian = "little") {
            true => from << 4 | to,
            false => to << 4 | from,
        };
        let mut bytes = [code, registers, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
        bytes[4..8].copy_from_slice(&value.to_ne_bytes());
        self.code.push(bytes);
    }

    /// From here on jumps to `place` arrive.
    pub(crate) fn place(&mut self, place: L) {
        self.places.push((place, self.code.len()));
    }

    pub(crate) fn set(&mut self, to: Reg, value: i32) {
        self.push(MOVE, to as u8, 0, 0, value);
    }

    pub(crate) fn copy(&mut self, to: Reg, from: Reg) {
        self.push(MOVE | FROM_REGISTER, to as u8, from as u8, 0, 0);
    }

    pub(crate) fn add(&mut self, to: Reg, value: i32) {
        self.push(ADD, to as u8, 0, 0, value);
    }

    pub(crate) fn and(&mut self, to: Reg, value: i32) {
        self.push(AND, to as u8, 0, 0, value);
    }

    /// Two bytes as they came from the network become a number.
    pub(crate) fn network_number(&mut self, to: Reg) {
        self.push(TO_BIG_ENDIAN, to as u8, 0, 0, 16);
    }

    /// The kernel puts the address of the map in place of its descriptor.
    pub(crate) fn set_map(&mut self, to: Reg, descriptor: i32) {
        self.push(LOAD_IMMEDIATE_64, to as u8, MAP_FD, 0, descriptor);
        self.push(0, 0, 0, 0, 0);
    }

    pub(crate) fn load(&mut self, to: Reg, from: Reg, offset: i16, size: Size) {
        let code = CLASS_LOAD_MEMORY | size as u8;
        self.push(code, to as u8, from as u8, offset, 0);
    }

    pub(crate) fn store_value(&mut self, to: Reg, offset: i16, value: i32, size: Size) {
        let code = CLASS_STORE_IMMEDIATE | size as u8;
        self.push(code, to as u8, 0, offset, value);
    }

    pub(crate) fn jump(&mut self, place: L) {
        self.jumps.push((self.code.len(), place));
        self.push(CLASS_JUMP, 0, 0, 0, 0);
    }

    pub(crate) fn jump_if(&mut self, left: Reg, condition: If, right: i32, place: L) {
        self.jumps.push((self.code.len(), place));
        let code = CLASS_JUMP | condition as u8;
        self.push(code, left as u8, 0, 0, right);
    }

    pub(crate) fn jump_if_reg(&mut self, left: Reg, condition: If, right: Reg, place: L) {
        self.jumps.push((self.code.len(), place));
        let code = CLASS_JUMP | condition as u8 | FROM_REGISTER;
        self.push(code, left as u8, right as u8, 0, 0);
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    pub(crate) fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The instructions, one after the other, as the kernel takes them.
    ///
    /// # Errors
    /// [`Unplaced`]: there is nowhere to jump to.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Unplaced<L>> {
        for (at, to) in self.jumps {
            let place = self.places.iter().find(|(place, _)| *place == to);
            // Counted from the instruction after the jump.
            let distance =
                place.and_then(|&(_, place)| i16::try_from(place as isize - at as isize - 1).ok());
            let distance = distance.ok_or(Unplaced(to))?;
            self.code[at][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
        Ok(self.code.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_have_the_bytes_of_the_standard() {
        let mut program = Program::new();
        program.copy(Reg::R6, Reg::R1);
        program.load(Reg::R2, Reg::R6, 40, Size::Word);
        program.store_value(Reg::R10, -4, 9, Size::Word);
        program.set_map(Reg::R1, 7);
        program.jump_if(Reg::R2, If::NotEqual, 5, 'x');
        program.jump_if_reg(Reg::R0, If::Less, Reg::R8, 'x');
        program.jump('x');
        program.call(Helper::KtimeGetBootNs);
        program.place('x');
        program.set(Reg::R0, -1);
        program.exit();
        let expected: [[u8; 8]; 11] = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x61, 0x62, 40, 0, 0, 0, 0, 0],
            [0x62, 0x0a, 0xfc, 0xff, 9, 0, 0, 0],
            [0x18, 0x11, 0, 0, 7, 0, 0, 0],
            [0; 8],
            [0x55, 0x02, 3, 0, 5, 0, 0, 0],
            [0xad, 0x80, 2, 0, 0, 0, 0, 0],
            [0x05, 0x00, 1, 0, 0, 0, 0, 0],
            [0x85, 0, 0, 0, 125, 0, 0, 0],
            [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(program.finish(), Ok(expected.concat()));
    }

    #[test]
    fn a_jump_to_nowhere_makes_no_program() {
        let mut program = Program::new();
        program.jump('x');
        program.place('y');
        assert_eq!(program.finish(), Err(Unplaced('x')));
    }
}
