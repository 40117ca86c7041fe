package nfnl

import (
	"encoding/binary"
	"errors"
	"iter"
)

// Flags in an attribute's type.
const (
	Nested    = 1 << 15
	byteOrder = 1 << 14
	typeMask  = ^uint16(Nested | byteOrder)
)

// MaxAttr is the longest payload of one attribute.
const MaxAttr = 1<<16 - 1 - attrHeader

const attrHeader = 4

// ErrMalformed is returned for attributes that do not fit their message.
var ErrMalformed = errors.New("malformed netlink attribute")

func align(n int) int { return (n + 3) &^ 3 }

// Append adds one attribute to b.
func Append(b []byte, typ uint16, data []byte) []byte {
	if len(data) > MaxAttr {
		panic("nfnl: attribute too long") // callers split their lists
	}
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, align(len(data))-len(data))...)
}

// AppendString adds a string with the closing zero the kernel expects.
func AppendString(b []byte, typ uint16, s string) []byte {
	return Append(b, typ, append([]byte(s), 0))
}

// AppendUint16 adds a number in network order.
func AppendUint16(b []byte, typ uint16, n uint16) []byte {
	return Append(b, typ, binary.BigEndian.AppendUint16(nil, n))
}

// AppendUint32 adds a number in network order.
func AppendUint32(b []byte, typ uint16, n uint32) []byte {
	return Append(b, typ, binary.BigEndian.AppendUint32(nil, n))
}

// AppendUint64 adds a number in network order.
func AppendUint64(b []byte, typ uint16, n uint64) []byte {
	return Append(b, typ, binary.BigEndian.AppendUint64(nil, n))
}

// AppendNested adds an attribute that holds attributes.
func AppendNested(b []byte, typ uint16, data []byte) []byte {
	return Append(b, typ|Nested, data)
}

// An Attr is one attribute. Data points into the message it was read from.
type Attr struct {
	Type   uint16 // without flags
	Nested bool   // as it is flagged; the kernel does not always say so
	Data   []byte
}

// Attrs walks the attributes in b. A length that does not fit ends the walk
// with ErrMalformed.
func Attrs(b []byte) iter.Seq2[Attr, error] {
	return func(yield func(Attr, error) bool) {
		for len(b) > 0 {
			if len(b) < attrHeader {
				yield(Attr{}, ErrMalformed)
				return
			}
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrHeader || n > len(b) {
				yield(Attr{}, ErrMalformed)
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:])
			a := Attr{typ & typeMask, typ&Nested != 0, b[attrHeader:n:n]}
			if !yield(a, nil) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// Uint8 reads a number of one byte.
func (a Attr) Uint8() (uint8, error) {
	if len(a.Data) != 1 {
		return 0, ErrMalformed
	}
	return a.Data[0], nil
}

// Uint16 reads a number in network order.
func (a Attr) Uint16() (uint16, error) {
	if len(a.Data) != 2 {
		return 0, ErrMalformed
	}
	return binary.BigEndian.Uint16(a.Data), nil
}

// Uint32 reads a number in network order.
func (a Attr) Uint32() (uint32, error) {
	if len(a.Data) != 4 {
		return 0, ErrMalformed
	}
	return binary.BigEndian.Uint32(a.Data), nil
}

// Uint64 reads a number in network order.
func (a Attr) Uint64() (uint64, error) {
	if len(a.Data) != 8 {
		return 0, ErrMalformed
	}
	return binary.BigEndian.Uint64(a.Data), nil
}

// Text reads a string up to its closing zero.
func (a Attr) Text() string {
	for i, c := range a.Data {
		if c == 0 {
			return string(a.Data[:i])
		}
	}
	return string(a.Data)
}
