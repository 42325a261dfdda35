//! The backends: how each is started, and the same application for each of them.
//!
//! The application answers everything with `{"status": "success"}` and appends a line to a file for every POST.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::ports::{self, Port};

pub struct Spec {
    pub name: &'static str,
    program: &'static str,
    /// `{port}` and `{dir}` are put in.
    arguments: &'static str,
    /// Pauses between messages, around the time after which it ends unused connections.
    pub periods: &'static [u64],
    /// It leaves connections open for long enough to be worth using again.
    pub keeps: bool,
}

const AROUND_2_S: &[u64] = &[1900, 1990, 2000, 2010, 2500, 2990, 3010];
const AROUND_5_S: &[u64] = &[3990, 4900, 5000, 5100];
const SHORT: &[u64] = &[0, 1, 100, 1000];

pub const BACKENDS: &[Spec] = &[
    Spec {
        name: "uwsgi-http",
        program: "uwsgi",
        arguments: "--plugin http,python3 --http 127.0.0.1:{port} --wsgi-file {dir}/app.py \
                    --master --processes 2 --listen 100 --disable-logging --die-on-term",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "uwsgi-http-socket",
        program: "uwsgi",
        arguments: "--http-socket 127.0.0.1:{port} --plugin python3 --wsgi-file {dir}/app.py --master --processes 2 \
                    --listen 100 --disable-logging --die-on-term",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "uwsgi-http11-socket",
        program: "uwsgi",
        arguments: "--http11-socket 127.0.0.1:{port} --plugin python3 --wsgi-file {dir}/app.py --master --processes 2 \
                    --listen 100 --disable-logging --die-on-term",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "uwsgi-http-keepalive",
        program: "uwsgi",
        arguments: "--plugin http,python3 --http 127.0.0.1:{port} --http-keepalive=3 --wsgi-file {dir}/app.py --master \
                    --processes 2 --listen 100 --disable-logging --die-on-term",
        periods: AROUND_2_S,
        keeps: false,
    },
    Spec {
        name: "gunicorn-sync",
        program: "gunicorn",
        arguments: "--bind 127.0.0.1:{port} --workers 2 --chdir {dir} --max-requests 100 app:application",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "gunicorn-gthread",
        program: "gunicorn",
        arguments: "--bind 127.0.0.1:{port} --worker-class gthread --threads 8 --chdir {dir} app:application",
        periods: AROUND_2_S,
        keeps: false,
    },
    Spec {
        name: "gunicorn-gthread-max-requests",
        program: "gunicorn",
        arguments: "--bind 127.0.0.1:{port} --worker-class gthread --workers 2 --threads 8 --max-requests 100 \
                    --max-requests-jitter 20 --chdir {dir} app:application",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "node",
        program: "node",
        arguments: "{dir}/app.js {port}",
        periods: AROUND_5_S,
        keeps: true,
    },
    Spec {
        name: "php",
        program: "php",
        arguments: "-S 127.0.0.1:{port} {dir}/app.php",
        periods: SHORT,
        keeps: false,
    },
    Spec {
        name: "django",
        program: "/usr/bin/python3",
        arguments: "{dir}/site.py runserver --noreload 127.0.0.1:{port}",
        periods: &[0, 100, 6000, 1000],
        keeps: true,
    },
    Spec {
        name: "nginx-keepalive-requests",
        program: "nginx",
        arguments: "-c {dir}/nginx.conf",
        periods: AROUND_5_S,
        keeps: true,
    },
];

impl Spec {
    /// What is not installed.
    pub fn missing(&self) -> Option<&'static str> {
        let has = |program: &str, arguments: &[&str]| {
            let run = Command::new(program)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            run.is_ok_and(|status| status.success())
        };
        match self.name {
            "django" => (!has(self.program, &["-c", "import django"])).then_some("django"),
            "nginx-keepalive-requests" => (!has("nginx", &["-v"])).then_some("nginx"),
            _ => (!has(self.program, &["--version"])).then_some(self.program),
        }
    }
}

pub struct Backend {
    child: Child,
    port: Port,
    dir: PathBuf,
}

impl Backend {
    pub fn start(spec: &Spec) -> Result<Backend, String> {
        let port = ports::claim();
        let dir = std::env::temp_dir().join(format!("rainbow-backend-{}-{}", std::process::id(), port.number));
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let put_in = |text: &str| {
            text.replace("{port}", &port.number.to_string())
                .replace("{dir}", &dir.display().to_string())
        };
        for (file, text) in [
            ("app.py", include_str!("app.py")),
            ("site.py", include_str!("site.py")),
            ("app.js", include_str!("app.js")),
            ("app.php", include_str!("app.php")),
            ("nginx.conf", include_str!("nginx.conf")),
        ] {
            std::fs::write(dir.join(file), put_in(text)).map_err(|error| error.to_string())?;
        }
        let said = std::fs::File::create(dir.join("said")).map_err(|error| error.to_string())?;
        let child = Command::new(spec.program)
            .args(put_in(spec.arguments).split_whitespace())
            .current_dir(&dir)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", &dir)
            .env("POSTS", dir.join("posts"))
            .stdin(Stdio::null())
            .stdout(said.try_clone().map_err(|error| error.to_string())?)
            .stderr(said)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut backend = Backend { child, port, dir };
        backend.wait_until_it_listens().map(|()| backend)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port())).is_err() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > end {
                let said = std::fs::read_to_string(self.dir.join("said")).unwrap_or_default();
                return Err(format!("it does not start: {said}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// POSTs that have come in.
    pub fn messages(&self) -> u64 {
        let posts = std::fs::read_to_string(self.dir.join("posts")).unwrap_or_default();
        posts.lines().filter(|line| *line == "POST").count() as u64
    }
}

impl Drop for Backend {
    /// SIGTERM, so that a master takes its workers along.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
