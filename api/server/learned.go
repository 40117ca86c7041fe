package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Learned takes what other machines learned. A Backend that is one as well
// makes its gateway one that others can report to.
type Learned interface {
	// HeldLearned gives the reported records at these provider addresses.
	HeldLearned(ctx context.Context, pas []netip.Addr) (v1.LearnedState, error)
	// AcceptLearned takes a report over, as far as nothing stands against it. An
	// error means that nothing of it was.
	AcceptLearned(ctx context.Context, r v1.LearnedReport) (v1.LearnedResult, error)
}

// maxLearnedPAs bounds the provider addresses of one machine.
const maxLearnedPAs = 64

// reportTimeout is short enough for a peer to try again rather than wait.
const reportTimeout = 10 * time.Second

type learnedFilter struct {
	PA []string `query:"pa" doc:"Provider addresses of the machine that asks, separated by commas. Left out: no records, only the state."`
}

func (s *Server) registerLearned() {
	get := operation("get-learned-records", http.MethodGet, learnedPath, "learned-records", "Which records a machine reported")
	get.Description = "For a peer that compares what is held here with what it learned."
	get.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, get, s.heldLearned)

	post := operation("report-learned-records", http.MethodPost, learnedPath, "learned-records", "Report what a machine learned")
	post.Description = "Takes over dynamic records at the sender's provider addresses and forgets those withdrawn. " +
		"What is configured wins over what is learned, and of two machines that learned the same address the later one. " +
		"Each record is judged for itself: what is not taken over is listed in the answer, with the reason, and the rest is."
	post.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, post, s.acceptLearned)
}

func (s *Server) heldLearned(ctx context.Context, in *learnedFilter) (*answer[v1.LearnedState], error) {
	l, err := s.learned()
	if err != nil {
		return nil, err
	}
	if len(in.PA) > maxLearnedPAs {
		return nil, s.refuse(invalidf("%d provider addresses are asked for, a machine has at most %d", len(in.PA), maxLearnedPAs))
	}
	pas := make([]netip.Addr, 0, len(in.PA))
	for _, p := range in.PA {
		a, err := netip.ParseAddr(p)
		if err != nil {
			return nil, s.refuse(invalidf("%q is no provider address", p))
		}
		pas = append(pas, a)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	st, err := l.HeldLearned(ctx, pas)
	if err != nil {
		return nil, s.refuse(err)
	}
	st.Items = orEmpty(st.Items)
	return &answer[v1.LearnedState]{st}, nil
}

func (s *Server) acceptLearned(ctx context.Context, in *creation[v1.LearnedReport]) (*answer[v1.LearnedResult], error) {
	l, err := s.learned()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := l.AcceptLearned(ctx, in.Body)
	if err != nil {
		return nil, s.refuse(err)
	}
	res.Held = orEmpty(res.Held)
	return &answer[v1.LearnedResult]{res}, nil
}

func (s *Server) learned() (Learned, error) {
	if l, ok := s.backend.(Learned); ok {
		return l, nil
	}
	return nil, s.refuse(&kindError{"this gateway takes no learned records", hnv.ErrNotFound})
}
