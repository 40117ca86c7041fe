package port

import "golang.org/x/net/bpf"

// program is a filter under construction. Jumps name labels, which are placed
// further on: a filter cannot go back. As a conditional jump reaches 255
// instructions only, each stands before a long one.
type program struct {
	code   []bpf.Instruction
	labels []int         // where they are placed
	jumps  map[int]label // by where they stand
}

type label int

func newProgram() *program { return &program{jumps: map[int]label{}} }

func (p *program) label() label {
	p.labels = append(p.labels, -1)
	return label(len(p.labels) - 1)
}

func (p *program) place(l label) { p.labels[l] = len(p.code) }

func (p *program) add(in ...bpf.Instruction) { p.code = append(p.code, in...) }

func (p *program) jump(to label) {
	p.jumps[len(p.code)] = to
	p.add(bpf.Jump{})
}

// when jumps if the accumulator is so.
func (p *program) when(cond bpf.JumpTest, val uint32, to label) {
	p.add(bpf.JumpIf{Cond: cond, Val: val, SkipFalse: 1})
	p.jump(to)
}

// done gives the program with its jumps filled in.
func (p *program) done() []bpf.Instruction {
	for at, l := range p.jumps {
		p.code[at] = bpf.Jump{Skip: uint32(p.labels[l] - at - 1)}
	}
	return p.code
}
