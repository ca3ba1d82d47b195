package main

import (
	"go/types"
	"slices"
	"strings"
)

// rule groups findings; it is their category.
type rule string

const (
	ruleClock     rule = "clock"
	ruleRandom    rule = "random"
	ruleEnv       rule = "environment"
	ruleIO        rule = "io"
	ruleGo        rule = "goroutine"
	ruleWait      rule = "wait"
	ruleContext   rule = "context"
	ruleLost      rule = "lost-context"
	ruleLog       rule = "log"
	ruleGlobal    rule = "global"
	ruleLock      rule = "lock"
	ruleOrder     rule = "map-order"
	ruleDefer     rule = "defer"
	ruleReadOnly  rule = "read-only"
	ruleOperation rule = "operation"
	ruleDirective rule = "directive"
)

// carried are the rules that hold for what a package of another module does
// that knows nothing of durable code: its goroutines, globals and debugging
// variables are its own affair.
var carried = []rule{ruleClock, ruleRandom, ruleIO}

const (
	useNow    = "use durable.Now(ctx)"
	useSleep  = "use durable.Sleep"
	useTimer  = "use durable.Sleep, or durable.Select with durable.Elapsed"
	useRand   = "use durable.Rand or durable.UUID"
	useSecret = useRand + "; a secret is made in a step"
	useEnv    = "read it in main and pass it in, or use durable.SideEffect"
	useStep   = "do it in a step"
	useGroup  = "use durable.NewGroup or durable.Map"
	useScope  = "use durable.WithTimeout or durable.WithCancel"
	useWait   = "use durable.Select, Signal.Receive, Future.Get or durable.Await"
	useLogger = "use durable.Logger(ctx), which does not repeat itself in a replay"
)

// banned is a row of the table of what workflow code must not mention.
type banned struct {
	pkg    string // its name after a trailing / is a prefix
	rule   rule
	remedy string
	// names are separated by spaces: F, a variable V, T.M; a * stands for all
	// of them; what follows a minus is left out.
	names string
}

var table = []banned{
	{"time", ruleClock, useNow, "Now"},
	{"time", ruleClock, "use durable.Now(ctx).Sub(t)", "Since"},
	{"time", ruleClock, "use t.Sub(durable.Now(ctx))", "Until"},
	{"time", ruleClock, useSleep, "Sleep"},
	{"time", ruleClock, useTimer, "After AfterFunc Tick NewTimer NewTicker"},

	{"math/rand", ruleRandom, useRand, "* -New -NewSource -NewZipf"},
	{"math/rand/v2", ruleRandom, useRand, "* -New -NewPCG -NewChaCha8 -NewZipf"},
	{"crypto/rand", ruleRandom, useSecret, "* Reader"},
	{"crypto/ed25519", ruleRandom, useSecret, "GenerateKey"},
	{"crypto/ecdsa", ruleRandom, useSecret, "GenerateKey"},
	{"crypto/rsa", ruleRandom, useSecret, "GenerateKey"},
	{"crypto/mlkem", ruleRandom, useSecret, "GenerateKey768 GenerateKey1024"},
	{"github.com/google/uuid", ruleRandom, "use durable.UUID", "New NewString NewRandom NewUUID NewV6 NewV7 NewDCEGroup NewDCEPerson NewDCESecurity"},
	{"github.com/gofrs/uuid/v5", ruleRandom, "use durable.UUID", "NewV1 NewV4 NewV6 NewV7"},
	{"github.com/oklog/ulid/v2", ruleRandom, "use durable.UUID", "Make Now DefaultEntropy"},
	{"github.com/rs/xid", ruleRandom, "use durable.UUID", "New"},
	{"github.com/segmentio/ksuid", ruleRandom, "use durable.UUID", "New NewRandom"},

	{"os", ruleEnv, useEnv, "Getenv LookupEnv Environ ExpandEnv Args Hostname Getpid Getppid Getuid Geteuid Getgid Getegid Getwd Executable TempDir UserHomeDir UserCacheDir UserConfigDir Getpagesize"},
	{"os", ruleIO, useStep, "* Stdin Stdout Stderr File.* Root.* Process.* -Expand -IsExist -IsNotExist -IsPermission -IsTimeout -IsPathSeparator -NewSyscallError -SameFile"},
	{"os/exec", ruleIO, useStep, "* Cmd.*"},
	{"os/user", ruleEnv, useEnv, "*"},
	{"os/signal", ruleContext, useScope + "; signals are main's", "*"},
	{"syscall", ruleIO, useStep, "Read Write Open Close Exec ForkExec Kill Socket Connect Bind Listen Accept Sendto Recvfrom Unlink Rename Mkdir Rmdir"},
	{"syscall", ruleEnv, useEnv, "Getenv Environ"},
	{"io/ioutil", ruleIO, useStep, "ReadFile WriteFile ReadDir TempFile TempDir"},
	{"path/filepath", ruleIO, useStep, "Walk WalkDir Glob EvalSymlinks Abs"},
	{"text/template", ruleIO, useStep, "ParseFiles ParseGlob Template.ParseFiles Template.ParseGlob"},
	{"html/template", ruleIO, useStep, "ParseFiles ParseGlob Template.ParseFiles Template.ParseGlob"},
	{"archive/zip", ruleIO, useStep, "OpenReader"},
	{"mime", ruleEnv, useEnv, "TypeByExtension ExtensionsByType"},
	{"net", ruleIO, useStep, "Dial DialIP DialTCP DialTimeout DialUDP DialUnix FileConn FileListener InterfaceAddrs InterfaceByIndex InterfaceByName Interfaces Listen ListenIP ListenMulticastUDP ListenPacket ListenTCP ListenUDP ListenUnix ListenUnixgram LookupAddr LookupCNAME LookupHost LookupIP LookupMX LookupNS LookupPort LookupSRV LookupTXT ResolveIPAddr ResolveTCPAddr ResolveUDPAddr Dialer.* Resolver.* ListenConfig.* Conn.* TCPConn.* UDPConn.* UnixConn.* IPConn.* Listener.* PacketConn.*"},
	{"net/http", ruleIO, useStep, "Get Head Post PostForm ListenAndServe ListenAndServeTLS Serve ServeTLS ServeFile Error Redirect Client.* Transport.* RoundTripper.* Server.* ResponseWriter.* ResponseController.*"},
	{"net/smtp", ruleIO, useStep, "Dial NewClient SendMail Client.*"},
	{"net/rpc", ruleIO, useStep, "Dial DialHTTP DialHTTPPath Client.* Server.*"},
	{"crypto/tls", ruleIO, useStep, "Dial DialWithDialer Listen LoadX509KeyPair Conn.* Dialer.*"},
	{"database/sql", ruleIO, useStep, "Open DB.* Conn.* Tx.* Stmt.* Row.* Rows.*"},
	{"log/syslog", ruleIO, useStep, "* Writer.*"},
	{"plugin", ruleIO, useStep, "*"},
	{"golang.org/x/sys/unix", ruleIO, useStep, "*"},

	{"context", ruleContext, useScope, "WithTimeout WithTimeoutCause WithDeadline WithDeadlineCause WithCancel WithCancelCause"},
	{"context", ruleContext, "wait with durable.Select or durable.Await, then do it", "AfterFunc"},
	{"golang.org/x/sync/errgroup", ruleGo, useGroup, "* Group.*"},
	{"golang.org/x/sync/singleflight", ruleWait, useGroup, "Group.*"},
	{"golang.org/x/sync/semaphore", ruleWait, "use durable.NewSemaphore", "Weighted.Acquire"},
	{"sync", ruleGo, useGroup, "WaitGroup.Go"},
	{"sync", ruleWait, "use Group.Wait", "WaitGroup.Wait"},
	{"sync", ruleWait, "use durable.Await", "Cond.Wait"},

	{"log", ruleLog, useLogger, "* Default -New -Flags -Prefix -SetFlags -SetPrefix -SetOutput -Writer"},
	{"log/slog", ruleLog, useLogger, "Debug DebugContext Info InfoContext Warn WarnContext Error ErrorContext Log LogAttrs Default With"},
	{"fmt", ruleLog, useLogger, "Print Printf Println"},
	{"fmt", ruleIO, useStep, "Scan Scanf Scanln"},
}

// byPackage is the table in the order of use.
var byPackage = func() map[string][]banned {
	m := map[string][]banned{}
	for _, b := range table {
		m[b.pkg] = append(m[b.pkg], b)
	}
	return m
}()

// lookup finds the row for a function or a variable of a package.
func lookup(obj types.Object) (banned, bool) {
	if obj.Pkg() == nil {
		return banned{}, false
	}
	name, onType := obj.Name(), ""
	fn, isFunc := obj.(*types.Func)
	if isFunc {
		name = localName(fn)
		if t, _, ok := strings.Cut(name, "."); ok {
			onType = t + ".*"
		}
	}
	for _, b := range byPackage[obj.Pkg().Path()] {
		names := strings.Fields(b.names)
		switch {
		case slices.Contains(names, "-"+name):
		case slices.Contains(names, name),
			onType != "" && slices.Contains(names, onType),
			isFunc && onType == "" && slices.Contains(names, "*"):
			return b, true
		}
	}
	return banned{}, false
}

// modes says where a rule holds.
func (r rule) modes() mode {
	switch r {
	case ruleIO, ruleGo, ruleWait, ruleOperation:
		return inAll
	case ruleReadOnly:
		return inQuiet
	}
	return inCode
}
