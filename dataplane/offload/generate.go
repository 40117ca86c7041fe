package offload

import _ "embed"

//go:generate bpf/build

// object has the programs and what their tables look like.
//
//go:embed bpf/fastpath.o
var object []byte
