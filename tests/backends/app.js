// keepAliveTimeout is left at its 5 s.
const fs = require("fs");
const posts = fs.openSync(process.env.POSTS, "a");
require("http").createServer((request, response) => {
  request.resume().on("end", () => {
    if (request.method === "POST") fs.writeSync(posts, "POST\n");
    response.setHeader("Content-Type", "application/json");
    response.end('{"status": "success"}');
  });
}).listen(Number(process.argv[2]), "127.0.0.1", 511);
