package temporalengine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// line knows whether the server answers. The SDK tries again until the
// caller's time is up, and then says only that.
type line struct{ down atomic.Pointer[silence] }

// patient is an operation that waits for a server that is away, until it does
// no more.
type patient struct {
	until time.Time
	lost  atomic.Pointer[silence]
}

type patientKey struct{}

// absence is how long an operation waits for a server that can't be reached,
// which a restart takes. The SDK would for a minute.
const absence = 3 * time.Second

// silence is what is known of a server that does not answer.
type silence struct {
	since  time.Time
	target string
	last   error
}

// watch looks at each request as it goes out.
func (l *line) watch(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	var gone *serviceerror.Unavailable
	switch {
	case status.Code(err) != codes.Unavailable && !errors.As(err, &gone):
		if !errors.Is(ctx.Err(), context.Canceled) && status.Code(err) != codes.DeadlineExceeded {
			l.down.Store(nil)
		}
	default:
		now := &silence{since: time.Now(), target: cc.Target(), last: err}
		if was := l.down.Load(); was != nil {
			now.since = was.since
		}
		l.down.Store(now)
		if p, _ := ctx.Value(patientKey{}).(*patient); p != nil && time.Now().After(p.until) {
			p.lost.Store(now)
			return status.Error(codes.FailedPrecondition, err.Error()) // which the SDK does not try again
		}
	}
	if strings.HasSuffix(method, "/RecordActivityTaskHeartbeat") && (status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded) {
		// The SDK would cancel the step. One that is at work goes on; whether
		// it was silent for too long is the server's to say.
		return nil
	}
	return err
}

// explain says that it was the server that a caller's time ran out on.
func (l *line) explain(op string, err error) error {
	s := l.down.Load()
	if s == nil || err == nil {
		return err
	}
	return fmt.Errorf("%s: %w (%w)", op, s, err)
}

func (s *silence) Error() string {
	return fmt.Sprintf("the Temporal server at %s does not answer since %s: %v", s.target, s.since.Format(time.TimeOnly), s.last)
}
