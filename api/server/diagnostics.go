package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Diagnostics looks into the gateway at work. What a request says wrongly wraps
// hnv.ErrInvalid, what it names and is not there hnv.ErrNotFound.
type Diagnostics interface {
	// NextHop tells where packets from a customer address of a virtual subnet to
	// another address go.
	NextHop(ctx context.Context, vsid uint32, src, dst string) (v1.NextHop, error)
	// Ping asks in the name of a station of this machine, and ProviderPing from a
	// provider address of it; each waits for an answer.
	Ping(ctx context.Context, q v1.PingRequest) (v1.PingReply, error)
	ProviderPing(ctx context.Context, q v1.ProviderPingRequest) (v1.PingReply, error)
	// Trace takes a packet through the layers for show.
	Trace(ctx context.Context, q v1.TraceRequest) (v1.Trace, error)
	// Capture prepares a capture, which run then writes as pcapng until it is
	// over or ctx ends.
	Capture(q v1.CaptureRequest) (run func(ctx context.Context, w io.Writer) error, err error)
	// InspectPort tells all about a port: its interface, or compartment/TENANT.
	// At most so many flows, of the customer address or prefix if one is given.
	InspectPort(ctx context.Context, port string, flows int, ca string) (v1.PortInspection, error)
}

// capturesPath is where captures are streamed, for longer than other requests
// may take.
const capturesPath = "/v1/captures"

// writeStall is how long a client of a capture may take no bytes.
const writeStall = 30 * time.Second

type nextHopInput struct {
	VSID  uint32 `query:"vsid" required:"true" doc:"Virtual subnet of the source." example:"5001"`
	SrcCA string `query:"srcCA" required:"true" doc:"Customer address of the source." example:"10.1.1.11"`
	DstCA string `query:"dstCA" required:"true" doc:"Address of the destination, inside the virtual network or not." example:"10.1.2.11"`
}

type inspectPortInput struct {
	Interface string `path:"interface" doc:"Linux interface of the VM." example:"vm1"`
	Flows     int    `query:"flows" default:"100" minimum:"0" maximum:"10000" doc:"How many flows at most."`
	CA        string `query:"ca" doc:"Only flows of this customer address, or inside this prefix." example:"10.1.1.11"`
}

type inspectCompartmentInput struct {
	Tenant string `path:"tenant" doc:"Tenant of the compartment." example:"contoso"`
	Flows  int    `query:"flows" default:"100" minimum:"0" maximum:"10000" doc:"How many flows at most."`
	CA     string `query:"ca" doc:"Only flows of this customer address, or inside this prefix." example:"10.1.1.11"`
}

func (s *Server) registerDiagnostics() {
	const tag = "diagnostics"
	errs := []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	op := func(id, method, path, summary, description string) huma.Operation {
		o := operation(id, method, path, tag, summary)
		o.Description, o.Errors = description, errs
		if method == http.MethodPost {
			o.DefaultStatus = http.StatusOK
		}
		return o
	}
	huma.Register(s.api, op("next-hop", http.MethodGet, "/v1/next-hop", "Tell the next hop of a packet",
		"Where packets from a customer address to another one go, by the records and routes that this machine has, whichever host the source is on."),
		func(ctx context.Context, in *nextHopInput) (*answer[v1.NextHop], error) {
			n, err := s.backend.NextHop(ctx, in.VSID, in.SrcCA, in.DstCA)
			n.SrcPAs, n.DstPAs = orEmpty(n.SrcPAs), orEmpty(n.DstPAs)
			return told(s, n, err)
		})
	huma.Register(s.api, op("ping", http.MethodPost, "/v1/ping", "Send one echo in the name of a station",
		"The echo goes through all layers of the station's port, and its answer is taken in front of it: no guest of this machine is involved. "+
			"The dataplane of the destination's host answers, if it is a hnvgate; otherwise the guest does."),
		func(ctx context.Context, in *creation[v1.PingRequest]) (*answer[v1.PingReply], error) {
			r, err := s.backend.Ping(ctx, in.Body)
			return told(s, r, err)
		})
	huma.Register(s.api, op("provider-ping", http.MethodPost, "/v1/provider-ping", "Send one echo between provider addresses",
		"Whether the fabric carries packets between hosts, and of which size."),
		func(ctx context.Context, in *creation[v1.ProviderPingRequest]) (*answer[v1.PingReply], error) {
			r, err := s.backend.ProviderPing(ctx, in.Body)
			return told(s, r, err)
		})
	huma.Register(s.api, op("trace", http.MethodPost, "/v1/trace", "Take a packet through the layers for show",
		"The packet takes the very way that a real one would take now, and every decision on it is told; nothing is sent, counted or remembered."),
		func(ctx context.Context, in *creation[v1.TraceRequest]) (*answer[v1.Trace], error) {
			t, err := s.backend.Trace(ctx, in.Body)
			t.Steps, t.Outputs = orEmpty(t.Steps), orEmpty(t.Outputs)
			return told(s, t, err)
		})
	s.registerCaptures(op)
	inspect := func(ctx context.Context, port string, flows int, ca string) (*answer[v1.PortInspection], error) {
		p, err := s.backend.InspectPort(ctx, port, flows, ca)
		return told(s, noNullsIn(p), err)
	}
	huma.Register(s.api, op("inspect-port", http.MethodGet, "/v1/ports/{interface}/inspection", "Tell all that decides about a port's packets", ""),
		func(ctx context.Context, in *inspectPortInput) (*answer[v1.PortInspection], error) {
			return inspect(ctx, in.Interface, in.Flows, in.CA)
		})
	huma.Register(s.api, op("inspect-compartment", http.MethodGet, "/v1/compartments/{tenant}/inspection", "Tell all that decides about a compartment's packets", ""),
		func(ctx context.Context, in *inspectCompartmentInput) (*answer[v1.PortInspection], error) {
			return inspect(ctx, "compartment/"+in.Tenant, in.Flows, in.CA)
		})
}

// told is the answer, or the refusal.
func told[T any](s *Server, v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, s.refuse(err)
	}
	return &answer[T]{v}, nil
}

func noNullsIn(p v1.PortInspection) v1.PortInspection {
	p.Layers, p.Meters, p.Learned, p.Flows = orEmpty(p.Layers), orEmpty(p.Meters), orEmpty(p.Learned), orEmpty(p.Flows)
	for i := range p.Layers {
		p.Layers[i].Groups = orEmpty(p.Layers[i].Groups)
		for j := range p.Layers[i].Groups {
			g := &p.Layers[i].Groups[j]
			g.Rules = orEmpty(g.Rules)
		}
	}
	for i := range p.Flows {
		p.Flows[i].Rules = orEmpty(p.Flows[i].Rules)
	}
	return p
}

func (s *Server) registerCaptures(op func(id, method, path, summary, description string) huma.Operation) {
	o := op("capture", http.MethodPost, capturesPath, "Capture packets",
		"Answers with a pcapng file that is written as packets come, until the capture's time, number of packets or size is over, or the client goes. "+
			"Each packet has a comment that says where it was seen, whose it is and why it was dropped.")
	o.Responses = map[string]*huma.Response{"200": {
		Description: "The capture.",
		Content:     map[string]*huma.MediaType{pcapng: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}}
	huma.Register(s.api, o, func(_ context.Context, in *creation[v1.CaptureRequest]) (*huma.StreamResponse, error) {
		run, err := s.backend.Capture(in.Body)
		if err != nil {
			return nil, s.refuse(err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) { s.stream(c, run) }}, nil
	})
}

// pcapng is the type under which Wireshark's packages know such files.
const pcapng = "application/x-pcapng"

// stream writes a capture to the client as it comes.
func (s *Server) stream(c huma.Context, run func(context.Context, io.Writer) error) {
	c.SetHeader("Content-Type", pcapng)
	c.SetHeader("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)() // the server does not wait for it to end
	out := &live{w: c.BodyWriter()}
	if rw, ok := out.w.(http.ResponseWriter); ok {
		out.ctl = http.NewResponseController(rw)
		_ = out.ctl.SetReadDeadline(time.Time{}) // that of requests would end it
	}
	err := run(ctx, out)
	switch {
	case err == nil:
	case !out.wrote:
		c.SetHeader("Content-Type", "application/problem+json")
		c.SetStatus(http.StatusServiceUnavailable)
		writeProblemBody(out.w, http.StatusServiceUnavailable, v1.ProblemUnavailable, err.Error())
	default:
		if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			s.log.Warn("capture broke off", "error", err)
		}
		panic(http.ErrAbortHandler) // so that the client sees that it is not whole
	}
}

// live is a client that gets each write at once, and is given up where it takes
// nothing.
type live struct {
	w     io.Writer
	ctl   *http.ResponseController
	wrote bool
}

func (l *live) Write(b []byte) (int, error) {
	l.wrote = true
	if l.ctl == nil {
		return l.w.Write(b)
	}
	_ = l.ctl.SetWriteDeadline(time.Now().Add(writeStall))
	n, err := l.w.Write(b)
	if err == nil {
		err = l.ctl.Flush()
	}
	return n, err
}
