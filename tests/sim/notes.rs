//! The notes of uploads in parts, on the disk of a run. As with the server's own, which are written
//! by threads, what is done with one comes to its end also where nobody waits for it any more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bitsd::bits::session_id::SessionId;
use bitsd::objects::note::{Note, Notebook};
use bitsd::vault::disk::Shelf;
use bitsd::vault::names::{self, WorkName};
use tokio::sync::{Mutex, oneshot};

use crate::executor::Group;
use crate::sim::Sim;
use crate::world::eio;

/// The notes of all sessions.
pub struct SimNotes(Rc<Noting>);

struct Noting {
    sim: Rc<Sim>,
    group: Group,
    /// Whose turn it is, by the session.
    turns: RefCell<BTreeMap<String, Rc<Mutex<()>>>>,
}

impl SimNotes {
    /// Those of one life, the tasks of which are this group.
    pub fn new(sim: &Rc<Sim>, group: Group) -> Self {
        Self(Rc::new(Noting {
            sim: Rc::clone(sim),
            group,
            turns: RefCell::default(),
        }))
    }

    async fn in_turn<T: 'static>(
        &self,
        session: &str,
        work: impl AsyncFnOnce(&Noting, String) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let id = SessionId::parse(session.as_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
        let turn = Rc::clone(
            self.0
                .turns
                .borrow_mut()
                .entry(session.to_owned())
                .or_default(),
        );
        let (told, done) = oneshot::channel();
        let noting = Rc::clone(&self.0);
        let name = names::note_name(id);
        self.0.sim.executor.spawn(self.0.group, async move {
            let _turn = turn.lock().await;
            let _heard_or_not = told.send(work(&noting, name).await);
        });
        done.await.expect("it comes to its end")
    }
}

impl Noting {
    fn fails(&self, rate: u64) -> io::Result<()> {
        match self.sim.chance(rate) {
            true => Err(eio()),
            false => Ok(()),
        }
    }

    fn note(&self, name: &str) -> io::Result<Option<Note>> {
        let disk = self.sim.disk.borrow();
        let Some(inode) = disk.inode_on(Shelf::WORK, name) else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(disk.read(inode))?))
    }

    async fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let sim = &self.sim;
        let half = format!("{name}.new");
        sim.disk_time().await;
        if let Some(full) = sim.full() {
            return Err(full);
        }
        self.fails(sim.plan.faults.write)?;
        let now = sim.executor.now();
        let there = sim.disk.borrow().inode_on(Shelf::WORK, &half);
        let inode = match there {
            Some(inode) => inode,
            None => sim.disk.borrow_mut().create(Shelf::WORK, &half, now)?,
        };
        sim.disk.borrow_mut().truncate(inode, 0);
        sim.disk.borrow_mut().write(inode, 0, text, now);
        sim.disk_time().await;
        if let Err(error) = self.fails(sim.plan.faults.sync) {
            sim.disk.borrow_mut().remove(Shelf::WORK, &half);
            return Err(error);
        }
        sim.disk.borrow_mut().sync(inode);
        sim.disk.borrow_mut().rename(Shelf::WORK, &half, name)?;
        sim.tell(|| format!("{name}: {}", String::from_utf8_lossy(text)));
        sim.disk_time().await;
        self.fails(sim.plan.faults.sync_folder)?;
        sim.disk.borrow_mut().sync_shelf(Shelf::WORK);
        sim.be_critical();
        sim.disk_time().await;
        Ok(())
    }
}

impl Notebook for SimNotes {
    async fn read(&self, session: &str) -> io::Result<Option<Note>> {
        let read = async |noting: &Noting, name: String| {
            noting.sim.disk_time().await;
            noting.note(&name)
        };
        self.in_turn(session, read).await
    }

    async fn write(&self, session: &str, note: &Note) -> io::Result<()> {
        let text = serde_json::to_vec(note)?;
        let write = async move |noting: &Noting, name: String| noting.write(&name, &text).await;
        self.in_turn(session, write).await
    }

    async fn remove(&self, session: &str) -> io::Result<()> {
        let remove = async |noting: &Noting, name: String| {
            noting.sim.disk_time().await;
            noting.sim.disk.borrow_mut().remove(Shelf::WORK, &name);
            Ok(())
        };
        self.in_turn(session, remove).await
    }

    async fn named(&self) -> io::Result<Vec<String>> {
        let sim = &self.0.sim;
        sim.disk_time().await;
        let names = sim.disk.borrow().list_of(Shelf::WORK);
        let mut uploads = Vec::new();
        for name in names {
            if let WorkName::Note(_) = names::parse_name(&name)
                && let Some(note) = self.0.note(&name)?
            {
                uploads.extend(note.upload);
            }
        }
        Ok(uploads)
    }
}
